package gql

import (
	"fmt"
	"strings"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
)

// table is a watched table as the schema has it.
type table struct {
	info       catalog.Table
	name       string // of its type: Orders, beside OrdersChange and OrdersWhere
	field      string // orders, for ordersChanged
	columns    []column
	byName     map[string]int        // columns by GraphQL name
	key        []int                 // the primary key's columns
	extensions map[string]*extension // custom fields of its rows, by name
	rows       []rowPolicy           // who sees which rows, beyond the tenants: all of them must let a row through
	members    []*memberPolicy
	whole      *table // the table with all its columns: itself, but for who may not see some
	hides      bool   // some columns are hidden
	signature  string // changes with all that a compiled plan relies on
	policies   string // the part of it that policies are
}

// column is a column as the schema has it.
type column struct {
	info    catalog.Column
	name    string
	typ     string // in GraphQL, without the exclamation mark
	where   string // the input type of its filters
	filter  *filter.Column
	encode  encoder
	nonNull bool
	enum    *enum  // of an enum's column, or of an array of them
	object  string // the object type of a range's column
}

// enum is an enum type as the schema has it.
type enum struct {
	typ    *catalog.Type
	name   string
	names  map[string]string // by label
	labels map[string]string // by name
	used   bool              // by a column that is not hidden
}

// typeNames are the names that a table takes, those of later additions included, so that none changes when they come.
func typeNames(name string) []string {
	return []string{name, name + "Change", name + "Batch", name + "Where", name + "OrderBy"}
}

func fieldNames(field string) []string {
	return []string{field + "Changed", field + "Batch", field}
}

// addTable names a table and its columns.
func (b *builder) addTable(info catalog.Table) {
	full := info.Schema + "." + info.Name
	t := &table{info: info, byName: map[string]int{}}
	t.whole = t

	base := info.Name
	if info.Schema != "public" {
		base = info.Schema + "_" + base
	}
	want, field := pascal(base), camel(base)
	if info.TypeName != "" {
		if validName(info.TypeName) {
			want = info.TypeName
		} else {
			b.problem(full, "", "type_name %q is no GraphQL name; %s is used", info.TypeName, want)
		}
	}
	if info.FieldName != "" {
		if validName(info.FieldName) {
			field = info.FieldName
		} else {
			b.problem(full, "", "field_name %q is no GraphQL name; %s is used", info.FieldName, field)
		}
	}
	t.name = b.types.free(want, typeNames)
	if t.name != want {
		b.problem(full, "", "the type name %s is taken; it is %s. To choose one, watch it with type_name", want, t.name)
	}
	t.field = b.roots.free(field, fieldNames)
	if t.field != field {
		b.problem(full, "", "the field name %sChanged is taken; it is %sChanged. To choose one, watch it with field_name", field, t.field)
	}

	b.addColumns(t, full)
	b.addPolicies(t, full)
	if len(t.columns) == 0 {
		b.problem(full, "", "has no column that subscribers may see; it is left out")
		return
	}
	t.sign()
	b.tables = append(b.tables, t)
}

func (b *builder) addColumns(t *table, full string) {
	names := namer{"and": true, "or": true, "not": true}
	b.reserved(t.name, names)
	numbers := parseTags(t.info.Comment).numbers
	for i, info := range t.info.Columns {
		b.hiding = b.hidden[columnID{t.info.Watch, info.Number}]
		want := camel(info.Name)
		c := column{info: info, nonNull: info.NotNull, filter: filter.NewColumn(info.Name, i, info.Type)}
		c.name = names.free(want, itself)
		if c.name != want {
			b.problem(full, info.Name, "the field name %s is taken; it is %s", want, c.name)
		}
		b.typeOf(&c, info.Type, full)
		if numbers || parseTags(info.Comment).numbers {
			c.asNumber()
		}
		if b.hiding {
			continue
		}
		t.byName[c.name] = len(t.columns)
		t.columns = append(t.columns, c)
	}
	b.hiding = false
	for _, k := range t.info.Key {
		found := false
		for i := range t.columns {
			if t.columns[i].info.Name == k {
				t.key, found = append(t.key, i), true
			}
		}
		if !found {
			b.problem(full, k, "is part of the primary key and excluded, so that key is always null")
			t.key = nil
			return
		}
	}
}

// enumOf names an enum type and its values; columns of one type share it.
func (b *builder) enumOf(t *catalog.Type, full string) *enum {
	id := t.Schema + "." + t.Name
	if e := b.enums[id]; e != nil {
		e.used = e.used || !b.hiding
		return e
	}
	base := t.Name
	if t.Schema != "public" {
		base = t.Schema + "_" + base
	}
	want := pascal(base)
	e := &enum{typ: t, names: map[string]string{}, labels: map[string]string{}, used: !b.hiding}
	e.name = b.types.free(want, func(s string) []string {
		return append(comparedNames(s), s)
	})
	if e.name != want {
		b.problem(full, "", "the type name %s is taken; the enum %s.%s is %s", want, t.Schema, t.Name, e.name)
	}
	names := namer{"true": true, "false": true, "null": true}
	for _, label := range t.Labels {
		name := names.free(enumName(label), itself)
		if name != label {
			b.problem(full, "", "the label %q of enum %s.%s is no GraphQL name, or taken; it is %s", label, t.Schema, t.Name, name)
		}
		e.names[label], e.labels[name] = name, label
	}
	b.enums[id] = e
	b.enumOrder = append(b.enumOrder, e)
	return e
}

// append writes the column's value in a row, as s selects it. With a code, which says why it can't, dst is as it was.
func (c *column) append(dst []byte, row *change.Row, s *selection) (out []byte, code string) {
	raw, ok := c.filter.Raw(row)
	switch {
	case !ok:
		return dst, codeValue
	case string(raw) != "null":
		if out, ok = c.encode(dst, raw, s.kids[c.object]); !ok {
			return dst, codeValue
		}
		return out, ""
	case c.nonNull:
		return dst, codeNull
	}
	return append(dst, "null"...), ""
}

// complaint is the message to the code that append gives.
func (t *table) complaint(c *column, code string) string {
	if code == codeNull {
		return "Cannot return null for non-nullable field " + t.name + "." + c.name + "."
	}
	return "The value of " + t.name + "." + c.name + " does not fit its type " + c.typ + "."
}

// sign sums up what plans of this table rely on.
func (t *table) sign() {
	var s strings.Builder
	for _, p := range t.info.Policies {
		fmt.Fprintf(&s, "%c %d %q %q", p.Kind, p.Column, p.Claim, p.Roles)
		if p.Member != nil {
			fmt.Fprintf(&s, " %d %d %d", p.Member.Watch, p.Member.Key, p.Member.User)
		}
		for _, c := range t.info.Columns {
			if c.Number == p.Column && p.Kind != catalog.ColumnPolicy {
				fmt.Fprintf(&s, " %q%s", c.Name, typeText(c.Type))
			}
		}
		s.WriteByte('\n')
	}
	t.policies = s.String()
	fmt.Fprintf(&s, "%d %t %q %q %q", t.info.Watch, t.info.Shared, t.info.TenantColumn, t.name, t.info.Key)
	for _, c := range t.columns {
		fmt.Fprintf(&s, "\n%d %q %q %s %t%s", c.info.Number, c.info.Name, c.name, c.typ, c.nonNull, typeText(c.info.Type))
	}
	t.signature = s.String()
}

// typeText is a type with all that it is made of.
func typeText(t *catalog.Type) string {
	var s strings.Builder
	for ; t != nil; t = t.Elem {
		fmt.Fprintf(&s, " %q.%q %c %q", t.Schema, t.Name, t.Kind, t.Labels)
	}
	return s.String()
}
