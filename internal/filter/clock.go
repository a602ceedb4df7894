package filter

import (
	"bytes"
	"math"
)

// Dates and times are whole numbers as in Postgres: microseconds since 2000-01-01 (days for a date), with the smallest
// and largest for -infinity and infinity.
const (
	usPerSecond = 1_000_000
	usPerDay    = 86_400 * usPerSecond

	minTimestamp = -2_451_545 * usPerDay  // 4714-11-24 BC
	maxTimestamp = 106_751_983 * usPerDay // 294277-01-01
)

// instant reads a date, timestamp, timestamptz or time as Postgres writes them in JSON, or as ISO 8601 has them: with T
// or a blank, Z or an offset, years of any length, a sign or BC.
func instant(b []byte, class Class) (int64, bool) {
	if class == Time {
		t, rest, ok := clockTime(b)
		return t, ok && len(rest) == 0
	}
	switch string(b) {
	case "infinity":
		return math.MaxInt64, true
	case "-infinity":
		return math.MinInt64, true
	}
	bc := bytes.HasSuffix(b, []byte(" BC"))
	if bc {
		b = b[:len(b)-3]
	}
	days, b, ok := date(b, bc)
	if !ok {
		return 0, false
	}
	if class == Date {
		return days, len(b) == 0 && days >= minTimestamp/usPerDay
	}
	if len(b) == 0 || b[0] != 'T' && b[0] != 't' && b[0] != ' ' {
		return 0, false
	}
	t, b, ok := clockTime(b[1:])
	if !ok {
		return 0, false
	}
	if class == TimestampTZ {
		var off int64
		if off, ok = offset(b); !ok {
			return 0, false
		}
		t -= off
		b = nil
	}
	if len(b) != 0 || days > maxTimestamp/usPerDay {
		return 0, false
	}
	n := days*usPerDay + t
	return n, n >= minTimestamp && n < maxTimestamp
}

// date reads [±]YYYY…-MM-DD. Year 0 is 1 BC when signed or plain; with bc, year 1 is.
func date(b []byte, bc bool) (days int64, rest []byte, ok bool) {
	minus := len(b) > 0 && b[0] == '-'
	if minus || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	i := 0
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i < 4 || i > 7 || len(b) < i+6 || b[i] != '-' || b[i+3] != '-' {
		return 0, nil, false
	}
	y := number(b[:i])
	m, okM := two(b[i+1:])
	d, okD := two(b[i+4:])
	if minus {
		y = -y
	}
	if bc {
		y = 1 - y
	}
	if !okM || !okD || m < 1 || m > 12 || d < 1 || d > daysIn(y, m) || y > 5874897 {
		return 0, nil, false
	}
	days = daysSince2000(y, m, d)
	return days, b[i+6:], days >= minTimestamp/usPerDay-1 // an offset may take the first day back by one
}

// clockTime reads HH:MM[:SS[.ffffff]], up to 24:00:00.
func clockTime(b []byte) (us int64, rest []byte, ok bool) {
	h, ok1 := two(b)
	if !ok1 || len(b) < 5 || b[2] != ':' {
		return 0, nil, false
	}
	m, ok2 := two(b[3:])
	b = b[5:]
	var s, frac int64
	ok3 := true
	if len(b) > 0 && b[0] == ':' {
		if s, ok3 = two(b[1:]); !ok3 {
			return 0, nil, false
		}
		b = b[3:]
		if len(b) > 1 && b[0] == '.' && isDigit(b[1]) {
			frac, b = fraction(b[1:])
		}
	}
	us = (h*3600+m*60+s)*usPerSecond + frac
	return us, b, ok2 && m < 60 && s < 60 && us <= usPerDay
}

// fraction reads the digits behind a point, as microseconds. What is finer is rounded, as Postgres does.
func fraction(b []byte) (us int64, rest []byte) {
	unit, i := int64(usPerSecond/10), 0
	for ; i < len(b) && isDigit(b[i]); i++ {
		us += int64(b[i]-'0') * unit
		if unit == 0 && i == 6 && b[i] >= '5' {
			us++
		}
		unit /= 10
	}
	return us, b[i:]
}

// offset reads Z or ±HH[:MM[:SS]], in microseconds east of Greenwich.
func offset(b []byte) (int64, bool) {
	if len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if len(b) < 3 || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	var total int64
	rest := b[1:]
	for unit := int64(3600); len(rest) > 0; unit /= 60 {
		n, ok := two(rest)
		if !ok || unit == 0 || unit == 3600 && n > 15 || unit < 3600 && n > 59 {
			return 0, false
		}
		total += n * unit
		if rest = rest[2:]; len(rest) > 0 {
			if rest[0] != ':' {
				return 0, false
			}
			rest = rest[1:]
			if len(rest) == 0 {
				return 0, false
			}
		}
	}
	if b[0] == '-' {
		total = -total
	}
	return total * usPerSecond, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func number(b []byte) int64 {
	var n int64
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n
}

func two(b []byte) (int64, bool) {
	if len(b) < 2 || !isDigit(b[0]) || !isDigit(b[1]) {
		return 0, false
	}
	return number(b[:2]), true
}

func leap(y int64) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func daysIn(y, m int64) int64 {
	switch m {
	case 2:
		if leap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSince2000 counts days in the proleptic Gregorian calendar, year 0 being 1 BC.
func daysSince2000(y, m, d int64) int64 {
	// A year that begins in March has its leap day last; 400 of them have 146,097 days.
	if m <= 2 {
		y--
		m += 12
	}
	era := floorDiv(y, 400)
	yearOfEra := y - era*400
	dayOfYear := (153*(m-3)+2)/5 + d - 1
	const march0To2000 = 730425 // from 0000-03-01 to 2000-01-01
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - march0To2000
}

// civil is the inverse of daysSince2000.
func civil(days int64) (y, m, d int64) {
	n := days + 730425
	era := floorDiv(n, 146097)
	dayOfEra := n - era*146097
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	month := (5*dayOfYear + 2) / 153
	d = dayOfYear - (153*month+2)/5 + 1
	m = month + 3
	y = yearOfEra + era*400
	if m > 12 {
		m -= 12
		y++
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// AppendISO appends a date, timestamp or timestamptz as ISO 8601 has it and JavaScript reads it, given as Postgres writes
// it in JSON (without the quotes): an instant in UTC with Z, a year outside of 1 to 9999 with a sign and six digits.
func AppendISO(dst, text []byte, class Class) ([]byte, bool) {
	n, ok := instant(text, class)
	if !ok {
		return dst, false
	}
	switch n {
	case math.MaxInt64:
		return append(dst, "infinity"...), true
	case math.MinInt64:
		return append(dst, "-infinity"...), true
	}
	days, us := n, int64(0)
	if class != Date {
		days = floorDiv(n, usPerDay)
		us = n - days*usPerDay
	}
	y, m, d := civil(days)
	if y < 1 || y > 9999 {
		sign := byte('+')
		if y < 0 {
			sign, y = '-', -y
		}
		dst = pad(append(dst, sign), y, 6)
	} else {
		dst = pad(dst, y, 4)
	}
	dst = pad(append(dst, '-'), m, 2)
	dst = pad(append(dst, '-'), d, 2)
	if class == Date {
		return dst, true
	}
	dst = appendClock(append(dst, 'T'), us)
	if class == TimestampTZ {
		dst = append(dst, 'Z')
	}
	return dst, true
}

// appendPostgres writes a date or time as Postgres reads it.
func appendPostgres(dst []byte, n int64, class Class) []byte {
	if class == Time {
		return appendClock(dst, n)
	}
	switch n {
	case math.MaxInt64:
		return append(dst, "infinity"...)
	case math.MinInt64:
		return append(dst, "-infinity"...)
	}
	days, us := n, int64(0)
	if class != Date {
		days = floorDiv(n, usPerDay)
		us = n - days*usPerDay
	}
	y, m, d := civil(days)
	bc := y < 1
	if bc {
		y = 1 - y
	}
	dst = pad(dst, y, 4)
	dst = pad(append(dst, '-'), m, 2)
	dst = pad(append(dst, '-'), d, 2)
	if class != Date {
		dst = appendClock(append(dst, ' '), us)
	}
	if class == TimestampTZ {
		dst = append(dst, "+00"...)
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}

func appendClock(dst []byte, us int64) []byte {
	dst = pad(dst, us/(3600*usPerSecond), 2)
	dst = pad(append(dst, ':'), us/(60*usPerSecond)%60, 2)
	dst = pad(append(dst, ':'), us/usPerSecond%60, 2)
	if frac := us % usPerSecond; frac != 0 {
		dst = bytes.TrimRight(pad(append(dst, '.'), frac, 6), "0")
	}
	return dst
}

func pad(dst []byte, n int64, width int) []byte {
	unit := int64(1)
	for range width - 1 {
		unit *= 10
	}
	for n >= unit*10 {
		unit *= 10
	}
	for ; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+n/unit%10))
	}
	return dst
}
