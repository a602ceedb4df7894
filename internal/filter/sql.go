package filter

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/catalog"
)

// AppendSQL writes the predicate as an SQL expression over the table's columns, and its values as text parameters
// behind args. It gives true, false or NULL exactly as Eval gives True, False or Unknown.
func (p *Predicate) AppendSQL(b *strings.Builder, args []any) []any {
	switch p.kind {
	case and, or:
		if len(p.kids) == 0 {
			b.WriteString([...]string{"true", "false"}[p.kind])
			return args
		}
		for i, kid := range p.kids {
			b.WriteString([...]string{"(", " and ", " or "}[min(i, 1)*(1+int(p.kind))])
			args = kid.AppendSQL(b, args)
		}
		b.WriteByte(')')
	case not:
		b.WriteString("not (")
		args = p.kids[0].AppendSQL(b, args)
		b.WriteByte(')')
	case isNull:
		name := pgx.Identifier{p.col.Name}.Sanitize()
		b.WriteString("(" + name + " is null")
		if p.col.Class == JSON {
			b.WriteString(" or " + name + "::text = 'null'")
		}
		b.WriteByte(')')
	case compares:
		b.WriteString(p.col.operand() + " " + opNames[p.op] + " ")
		args = p.col.parameter(b, args, &p.values[0])
	case in:
		b.WriteString(p.col.operand() + " in (")
		for i := range p.values {
			if i > 0 {
				b.WriteString(", ")
			}
			args = p.col.parameter(b, args, &p.values[i])
		}
		b.WriteByte(')')
	}
	return args
}

// operand is the column as it is compared.
func (c *Column) operand() string {
	name := pgx.Identifier{c.Name}.Sanitize()
	switch c.Class {
	case Int:
		return name + "::int8"
	case Text, Char:
		return name + `::text collate "C"`
	case Opaque:
		// A cast to text may be a function with its own idea of the text; format uses the type's output function.
		return "case when " + name + " is not null then format('%s', " + name + `) end collate "C"`
	}
	return name
}

func (c *Column) parameter(b *strings.Builder, args []any, v *Value) []any {
	text := v.text
	if c.Class == Char {
		text = string(v.b)
	}
	args = append(args, text)
	b.WriteString("$" + strconv.Itoa(len(args)) + "::text")
	switch c.Class {
	case Text, Char, Opaque:
	case Int:
		b.WriteString("::int8")
	default:
		t := c.Type
		for t.Kind == catalog.Domain && t.Elem != nil {
			t = t.Elem
		}
		b.WriteString("::" + pgx.Identifier{t.Schema, t.Name}.Sanitize())
	}
	return args
}
