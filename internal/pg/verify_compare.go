package pg

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// comparer makes of a row's image what is compared, and finds its key. A trigger writes a timestamptz with the offset of its session's time
// zone: those of an instant are made equal.
type comparer struct {
	key   []string        // the columns, as JSON has them, between the quotes
	zoned map[string]bool // columns that may hold a timestamptz
	row   change.Row
	image []byte
	buf   []byte
}

func newComparer(t *rowTable) *comparer {
	c := &comparer{zoned: map[string]bool{}}
	written := func(name string) string {
		quoted := appendString(nil, []byte(name))
		return string(quoted[1 : len(quoted)-1])
	}
	for _, name := range t.key {
		c.key = append(c.key, written(name))
	}
	for i := range t.columns {
		if col := &t.columns[i]; col.as == asTime || col.as == asJSON && col.sql != (pgx.Identifier{col.name}).Sanitize() {
			c.zoned[written(col.name)] = true
		}
	}
	return c
}

// compare returns the key, and the image in its one form, which is valid until the next call.
func (c *comparer) compare(image []byte) (key string, same []byte, err error) {
	if len(c.zoned) == 0 && len(c.key) == 0 {
		return string(image), image, nil
	}
	if err := c.row.Parse(image); err != nil {
		return "", nil, err
	}
	if len(c.zoned) > 0 {
		c.image = c.image[:0]
		for i := range c.row.Len() {
			name, value := c.row.Field(i)
			c.image = append(append(append(c.image, `,"`...), name...), `":`...)
			if c.zoned[name] {
				value = zonedTime.ReplaceAllFunc(value, inUTC)
			}
			c.image = append(c.image, value...)
		}
		if c.image = append(c.image, '}'); c.image[0] == ',' {
			c.image[0] = '{'
		}
		image = c.image
		if err := c.row.Parse(image); err != nil {
			return "", nil, err
		}
	}
	if len(c.key) == 0 {
		return string(image), image, nil
	}
	b := c.buf[:0]
	for i, name := range c.key {
		value, ok := c.row.Get(name, i)
		if !ok {
			return "", nil, fmt.Errorf("an image lacks the key's column %q: was the table altered?", name)
		}
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		b = append(append(append(append(b, before, '"'), name...), `":`...), value...)
	}
	c.buf = append(b, '}')
	return string(c.buf), image, nil
}

// zonedTime is a timestamptz as JSON has it. An offset has seconds where it is one of before there were time zones.
var zonedTime = regexp.MustCompile(`"(\d{4,})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?([+-])(\d\d):?(\d\d)?:?(\d\d)?( BC)?"`)

func inUTC(text []byte) []byte {
	m := zonedTime.FindSubmatch(text)
	n := func(i int) int {
		n, _ := strconv.Atoi(string(m[i])) // digits, or nothing
		return n
	}
	year, offset := n(1), n(9)*3600+n(10)*60+n(11)
	if len(m[12]) > 0 {
		year = 1 - year
	}
	if m[8][0] == '-' {
		offset = -offset
	}
	at := time.Date(year, time.Month(n(2)), n(3), n(4), n(5), n(6)-offset, 0, time.UTC)
	out := at.AppendFormat([]byte{'"'}, "2006-01-02T15:04:05")
	return append(append(out, m[7]...), `Z"`...)
}
