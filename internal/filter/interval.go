package filter

import (
	"bytes"
	"math"
	"strconv"
)

// interval is a span of time as Postgres keeps it.
type interval struct {
	months, days, us int64
	infinite         int // -1, 0, 1
}

// order gives what intervals are ordered by: a month is 30 days, a day 24 hours.
func (s interval) order() (days, us int64) {
	switch {
	case s.infinite > 0:
		return math.MaxInt64, 0
	case s.infinite < 0:
		return math.MinInt64, 0
	}
	days = floorDiv(s.us, usPerDay)
	return s.months*30 + s.days + days, s.us - days*usPerDay
}

// parseInterval reads an ISO 8601 duration, as a client writes it and as Postgres does in IntervalStyle iso_8601, and the
// style that Postgres has by default: 1 year 2 mons -3 days 04:05:06.7.
func parseInterval(b []byte) (interval, bool) {
	switch string(b) {
	case "infinity":
		return interval{infinite: 1}, true
	case "-infinity":
		return interval{infinite: -1}, true
	}
	minus := false
	if len(b) > 1 && (b[0] == '-' || b[0] == '+') && b[1] == 'P' {
		minus = b[0] == '-'
		b = b[1:]
	}
	var s interval
	var ok bool
	if len(b) > 0 && b[0] == 'P' {
		s, ok = isoInterval(b[1:])
	} else {
		s, ok = postgresInterval(b)
	}
	if minus {
		s.months, s.days, s.us = -s.months, -s.days, -s.us
	}
	return s, ok && s.fits()
}

// fits reports whether Postgres can hold the interval, with room to add its parts up.
func (s interval) fits() bool {
	return s.months == int64(int32(s.months)) && s.days == int64(int32(s.days))
}

func isoInterval(b []byte) (s interval, ok bool) {
	time := false
	for len(b) > 0 {
		if b[0] == 'T' && !time {
			time = true
			if b = b[1:]; len(b) == 0 {
				return s, false
			}
		}
		n, us, rest, good := quantity(b)
		if !good || len(rest) == 0 {
			return s, false
		}
		unit := rest[0]
		b = rest[1:]
		whole := us == 0
		switch {
		case !time && unit == 'Y' && whole:
			s.months, good = plus(s.months, n, 12)
		case !time && unit == 'M' && whole:
			s.months, good = plus(s.months, n, 1)
		case !time && unit == 'W' && whole:
			s.days, good = plus(s.days, n, 7)
		case !time && unit == 'D' && whole:
			s.days, good = plus(s.days, n, 1)
		case time && unit == 'H' && whole:
			s.us, good = plus(s.us, n, 3600*usPerSecond)
		case time && unit == 'M' && whole:
			s.us, good = plus(s.us, n, 60*usPerSecond)
		case time && unit == 'S':
			if s.us, good = plus(s.us, n, usPerSecond); good {
				s.us, good = plus(s.us, us, 1)
			}
		default:
			return s, false
		}
		if !good {
			return s, false
		}
		ok = true
	}
	return s, ok
}

func postgresInterval(b []byte) (s interval, ok bool) {
	for len(b) > 0 {
		b = bytes.TrimLeft(b, " ")
		word := b
		if i := bytes.IndexByte(b, ' '); i >= 0 {
			word = b[:i]
		}
		if bytes.IndexByte(word, ':') >= 0 {
			us, good := clockSpan(word)
			s.us = us
			return s, good && len(word) == len(b)
		}
		n, us, rest, good := quantity(b)
		if !good || us != 0 || len(rest) < 2 || rest[0] != ' ' {
			return s, false
		}
		rest = rest[1:]
		unit := rest
		if i := bytes.IndexByte(rest, ' '); i >= 0 {
			unit = rest[:i]
		}
		b = rest[len(unit):]
		switch string(bytes.TrimSuffix(unit, []byte("s"))) {
		case "year":
			s.months, good = plus(s.months, n, 12)
		case "mon":
			s.months, good = plus(s.months, n, 1)
		case "day":
			s.days, good = plus(s.days, n, 1)
		default:
			return s, false
		}
		if !good {
			return s, false
		}
		ok = true
	}
	return s, ok
}

// clockSpan reads [±]HH:MM:SS[.ffffff], hours of any length.
func clockSpan(b []byte) (int64, bool) {
	minus := b[0] == '-'
	if minus || b[0] == '+' {
		b = b[1:]
	}
	i := bytes.IndexByte(b, ':')
	if i < 1 || i > 10 || !digits(b[:i]) || len(b) < i+3 {
		return 0, false
	}
	h := number(b[:i])
	// The rest reads as a time of day in hour 00.
	var rest [24]byte
	n := copy(rest[:], "00")
	n += copy(rest[n:], b[i:])
	us, left, ok := clockTime(rest[:n])
	if !ok || len(left) != 0 || len(b)-i > len(rest)-2 {
		return 0, false
	}
	us, ok = plus(us, h, 3600*usPerSecond)
	if minus {
		us = -us
	}
	return us, ok
}

// quantity reads [±]digits[.digits]: whole units, and millionths of one.
func quantity(b []byte) (n, us int64, rest []byte, ok bool) {
	minus := len(b) > 0 && b[0] == '-'
	if minus || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	i := 0
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i == 0 || i > 18 {
		return 0, 0, nil, false
	}
	n = number(b[:i])
	if i+1 < len(b) && b[i] == '.' && isDigit(b[i+1]) {
		us, b = fraction(b[i+1:])
	} else {
		b = b[i:]
	}
	if minus {
		n, us = -n, -us
	}
	return n, us, b, true
}

func digits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}

// plus is a + n*unit, unless that overflows.
func plus(a, n, unit int64) (int64, bool) {
	p := n * unit
	if p/unit != n {
		return 0, false
	}
	sum := a + p
	return sum, (sum > a) == (p > 0)
}

// append writes the interval as an ISO 8601 duration, as Postgres reads it too.
func (s interval) append(dst []byte) []byte {
	switch {
	case s.infinite > 0:
		return append(dst, "infinity"...)
	case s.infinite < 0:
		return append(dst, "-infinity"...)
	case s == interval{}:
		return append(dst, "PT0S"...)
	}
	part := func(n int64, unit byte) {
		if n != 0 {
			dst = append(strconv.AppendInt(dst, n, 10), unit)
		}
	}
	dst = append(dst, 'P')
	part(s.months/12, 'Y')
	part(s.months%12, 'M')
	part(s.days, 'D')
	if s.us == 0 {
		return dst
	}
	dst = append(dst, 'T')
	part(s.us/(3600*usPerSecond), 'H')
	part(s.us/(60*usPerSecond)%60, 'M')
	sec, frac := s.us/usPerSecond%60, s.us%usPerSecond
	if sec == 0 && frac == 0 {
		return dst
	}
	if s.us < 0 {
		dst = append(dst, '-')
		sec, frac = -sec, -frac
	}
	dst = strconv.AppendInt(dst, sec, 10)
	if frac != 0 {
		dst = bytes.TrimRight(pad(append(dst, '.'), frac, 6), "0")
	}
	return append(dst, 'S')
}

// AppendDuration appends an interval, given as Postgres writes it, as an ISO 8601 duration.
func AppendDuration(dst, text []byte) ([]byte, bool) {
	s, ok := parseInterval(text)
	if !ok {
		return dst, false
	}
	return s.append(dst), true
}
