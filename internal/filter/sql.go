package filter

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/catalog"
)

// SQL is the predicate as an SQL expression over the table's columns, with its values as parameters behind args: all of
// them are text. It gives true, false or NULL exactly as Eval gives True, False or Unknown.
func (p *Predicate) SQL(args []any) (string, []any) {
	w := &writer{args: args}
	p.sql(w)
	return w.buf.String(), w.args
}

// writer writes an expression and gathers its parameters.
type writer struct {
	buf  strings.Builder
	args []any
}

func (w *writer) write(parts ...string) {
	for _, s := range parts {
		w.buf.WriteString(s)
	}
}

func (w *writer) parameter(text string) {
	w.args = append(w.args, text)
	w.write("$", strconv.Itoa(len(w.args)), "::text")
}

// values writes values of the column's type.
func (w *writer) values(c *Column, vs ...Value) {
	for i := range vs {
		if i > 0 {
			w.write(", ")
		}
		if c.Class == Enum {
			// Read by the type's input function, not cast from text: a cast may be somebody's function.
			w.args = append(w.args, vs[i].text)
			w.write("$", strconv.Itoa(len(w.args)), "::", c.cast())
			continue
		}
		w.parameter(vs[i].text)
		if t := c.cast(); t != "" {
			w.write("::", t)
		}
	}
}

// equal writes that the column equals one of vs. Texts of equal bytes are equal in every collation, so for text the column's own
// is asked first: an index has that, and not "C".
func (w *writer) equal(c *Column, before, after string, vs ...Value) {
	n := len(w.args)
	if c.Class == Text {
		w.write("(", c.quoted(), before)
		w.values(c, vs...)
		w.write(after, " and ")
		w.args = w.args[:n] // the same parameters again
	}
	w.write(c.operand(), before)
	w.values(c, vs...)
	w.write(after)
	if c.Class == Text {
		w.write(")")
	}
}

func (p *Predicate) sql(w *writer) {
	switch p.kind {
	case and, or:
		if len(p.kids) == 0 {
			w.write([...]string{and: "true", or: "false"}[p.kind])
			return
		}
		w.write("(")
		for i, kid := range p.kids {
			if i > 0 {
				w.write([...]string{and: " and ", or: " or "}[p.kind])
			}
			kid.sql(w)
		}
		w.write(")")
	case not:
		w.write("not (")
		p.kids[0].sql(w)
		w.write(")")
	case isNull:
		name := p.col.quoted()
		switch p.col.Class {
		case JSON:
			w.write("(", name, " is null or json_typeof(", name, ") = 'null')")
		case JSONB:
			w.write("(", name, " is null or jsonb_typeof(", name, ") = 'null')")
		default:
			w.write("(", name, " is null)")
		}
	case tests:
		p.test.sql(w, p.col)
	}
}

// quoted is the column, as the type below its domain: enums, arrays and ranges have no operators for domains.
func (c *Column) quoted() string {
	name := pgx.Identifier{c.Name}.Sanitize()
	if c.below != c.Type {
		return name + "::" + typeName(c.below)
	}
	return name
}

// operand is the column as it is compared.
func (c *Column) operand() string {
	name := c.quoted()
	switch c.Class {
	case Int:
		if c.below.Name == "oid" {
			return name + "::int8"
		}
	case Text, Char:
		return name + `::text collate "C"`
	case Opaque:
		// A cast to text may be a function with its own idea of the text; format uses the type's output function.
		return "case when " + name + " is not null then format('%s', " + name + `) end collate "C"`
	case JSONB:
		// JSON's null counts as NULL: an image does not tell them apart.
		return "nullif(" + name + ", 'null')"
	}
	if t := c.ofDomains(); t != "" {
		return name + "::" + t
	}
	return name
}

// cast is the type as which a client's text is compared; empty for text.
func (c *Column) cast() string {
	switch c.Class {
	case Text, Char, Opaque:
		return ""
	case Int:
		return "int8"
	}
	if t := c.ofDomains(); t != "" {
		return t
	}
	return typeName(c.below)
}

// ofDomains is the type of an array of a domain's values without the domain, whose constraints run somebody's functions; empty for
// any other type.
func (c *Column) ofDomains() string {
	if c.Class != Array || c.Elem.below == c.Elem.Type {
		return ""
	}
	return typeName(c.Elem.below) + "[]"
}

func typeName(t *catalog.Type) string {
	if t.Schema == "" {
		return pgx.Identifier{t.Name}.Sanitize()
	}
	return pgx.Identifier{t.Schema, t.Name}.Sanitize()
}
