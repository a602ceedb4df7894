package gql

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed base.graphql
var baseGraphQL string

// reservedTypes are names that no table takes, because they mean or may come to mean something.
func reservedTypes() []string {
	names := []string{
		"Query", "Mutation", "Subscription", "_Any", "_Entity", "_Service", "_FieldSet",
		"OpaqueWhere", "NullWhere", "JSONWhere", "JSONPathWhere", "ListWhere", "RangeWhere",
	}
	for _, s := range comparedTypes {
		names = append(names, comparedNames(s)...)
	}
	return names
}

// comparedTypes are the scalars that filters compare, ours and GraphQL's own.
var comparedTypes = []string{
	"BigInt", "Boolean", "Bytes", "Date", "DateTime", "Decimal", "Duration", "Float", "Int", "LocalDateTime", "String", "Time", "UUID",
}

// comparedNames are the types that a scalar or an enum brings with it.
func comparedNames(name string) []string {
	return []string{name + "Where", name + "ListWhere", name + "Range", name + "RangeWhere"}
}

// baseSDL is what every schema has.
func baseSDL() string {
	var b strings.Builder
	b.WriteString(baseGraphQL)
	for _, s := range scalars {
		b.WriteString("\n" + describe("", s.description) + "scalar " + s.name)
		if s.url != "" {
			fmt.Fprintf(&b, " @specifiedBy(url: %q)", s.url)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// write writes the types of all tables.
func (b *builder) write() {
	for _, e := range b.enumOrder {
		if !e.used {
			continue
		}
		fmt.Fprintf(&b.sdl, "\nenum %s {\n", e.name)
		for _, label := range e.typ.Labels {
			name := e.names[label]
			if name != label {
				b.sdl.WriteString(describe("  ", label))
			}
			b.sdl.WriteString("  " + name + "\n")
		}
		if len(e.typ.Labels) == 0 {
			b.sdl.WriteString("  _\n")
		}
		b.sdl.WriteString("}\n")
		b.writeCompared(e.name, "Values are compared in the order of the enum.")
	}
	b.writeComparedTypes()
	for _, t := range b.tables {
		b.writeTable(t)
	}
}

func (b *builder) writeTable(t *table) {
	w := &b.sdl
	fmt.Fprintf(w, "\n%stype %s {\n", describe("", parseTags(t.info.Comment).doc), t.name)
	for _, c := range t.columns {
		bang := ""
		if c.nonNull {
			bang = "!"
		}
		tags := parseTags(c.info.Comment)
		fmt.Fprintf(w, "%s  %s: %s%s%s\n", describe("  ", tags.doc), c.name, c.typ, bang, tags.directive())
	}
	w.WriteString("}\n")

	what := t.info.Name
	if t.info.Schema != "public" {
		what = t.info.Schema + "." + what
	}
	fmt.Fprintf(w, "\n%stype %sChange {\n", describe("", "A change to the rows of "+what+" that a subscription selects."), t.name)
	w.WriteString(describe("  ", "What the change is to the rows selected.") + "  kind: ChangeKind!\n")
	w.WriteString(describe("  ", "What happened in the table.") + "  cause: ChangeCause\n")
	w.WriteString(describe("  ", keyDoc(t, "as it is now; of a row that is gone, as it was")) + "  key: ID\n")
	w.WriteString(describe("  ", keyDoc(t, "as it was before an UPDATE or a DELETE; an UPDATE may have changed it")) + "  oldKey: ID\n")
	fmt.Fprintf(w, "%s  new: %s\n", describe("  ", "The row as it is now."), t.name)
	fmt.Fprintf(w, "%s  old: %s\n", describe("  ", "The row as it was before."), t.name)
	w.WriteString(describe("  ", "For an UPDATE, the fields whose values differ.") + "  changedFields: [String!]!\n")
	w.WriteString(describe("  ", "Equal for all changes of one transaction.") + "  transaction: ID\n")
	w.WriteString(describe("  ", "When the row was written, shortly before the commit.") + "  committedAt: DateTime\n")
	w.WriteString(describe("  ", cursorDoc) + "  cursor: Cursor\n}\n")

	if !b.options.NoBatches {
		b.writeBatch(t, what)
	}

	fmt.Fprintf(w, "\n%sinput %sWhere {\n", describe("", "Rows of "+what+". All that is given must hold; a comparison with NULL does not."), t.name)
	fmt.Fprintf(w, "  and: [%[1]sWhere!]\n  or: [%[1]sWhere!]\n  not: %[1]sWhere\n", t.name)
	for _, c := range t.columns {
		fmt.Fprintf(w, "  %s: %s\n", c.name, c.where)
	}
	w.WriteString("}\n")

	arguments := b.writeOrderBy(t, what)
	doc := "Each insert, update and delete of the rows of " + what + " that where selects, and each truncate."
	fmt.Fprintf(w, "\nextend type Subscription {\n%s  %sChanged(%s): %sChange!\n", describe("  ", doc), t.field, arguments, t.name)
	if !b.options.NoBatches {
		doc = "The same changes, those of one transaction together; of a large one, in parts."
		fmt.Fprintf(w, "%s  %sBatch(%s): %sBatch!\n", describe("  ", doc), t.field, arguments, t.name)
	}
	w.WriteString("}\n")
}

// writeBatch writes the type of a transaction's changes.
func (b *builder) writeBatch(t *table, what string) {
	w := &b.sdl
	fmt.Fprintf(w, "\n%stype %sBatch {\n", describe("", "The changes of one transaction to the rows of "+what+" that a subscription selects, or rows that stand."), t.name)
	fmt.Fprintf(w, "  changes: [%sChange!]!\n", t.name)
	w.WriteString(describe("  ", "False: more of the same follows in the next batch.") + "  complete: Boolean!\n")
	w.WriteString(describe("  ", "All that came before now was sent. There are no changes in this batch.") + "  synced: Boolean!\n")
	w.WriteString(describe("  ", cursorDoc) + "  cursor: Cursor\n}\n")
}

const cursorDoc = "Where this leaves off: to go on behind it, give it as after. Null for rows that stand, and where there is no log."

// writeOrderBy writes the input type of a table's orders, if it has a column to order by, and returns the arguments of its
// fields.
func (b *builder) writeOrderBy(t *table, what string) (arguments string) {
	if b.options.NoRows {
		return "\n    where: " + t.name + "Where\n" + describe("    ", "Go on behind this place.") + "    after: Cursor\n  "
	}
	var fields, orderBy string
	for i := range t.columns {
		if c := &t.columns[i]; c.orderable() {
			fields += "  " + c.name + ": SortOrder\n"
		}
	}
	if fields != "" {
		fmt.Fprintf(&b.sdl, "\n%sinput %sOrderBy {\n%s}\n", describe("", "An order of the rows of "+what+": by one column."), t.name, fields)
		orderBy = describe("    ", "Of the rows that stand, by the first, then by the next. In the end, and if it is not given, by the primary key.") +
			"    orderBy: [" + t.name + "OrderBy!]\n"
	}
	return "\n    where: " + t.name + "Where\n" +
		describe("    ", "First the rows as they stand now, then SYNCED, then each change since.") + "    initial: Boolean = false\n" +
		orderBy +
		describe("    ", "How many of the rows that stand are sent at most.") + "    limit: Int\n" +
		describe("    ", "Go on behind this place; initial, orderBy and limit are then ignored.") + "    after: Cursor\n  "
}

// tags are what a comment says to us, in lines of their own that begin with an at sign: @deprecated and a reason, and
// @numbers. doc is the rest.
type tags struct {
	doc        string
	deprecated bool
	reason     string
	numbers    bool
}

func parseTags(comment string) (t tags) {
	var lines []string
	for line := range strings.Lines(printable(comment)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.TrimSuffix(name, ":") {
		case "@deprecated":
			t.deprecated, t.reason = true, strings.TrimSpace(rest)
		case "@numbers":
			t.numbers = true
		default:
			lines = append(lines, line)
		}
	}
	t.doc = strings.Join(lines, "")
	return t
}

// directive is the tags as SDL has them.
func (t tags) directive() string {
	switch {
	case !t.deprecated:
		return ""
	case t.reason == "":
		return " @deprecated"
	}
	return " @deprecated(reason: " + quote(t.reason) + ")"
}

// keyDoc describes a field that is the primary key as of some time.
func keyDoc(t *table, when string) string {
	switch len(t.key) {
	case 0:
		return "Null: the table has no primary key to tell its rows apart."
	case 1:
		return "The row's primary key, " + when + "."
	}
	return "The row's primary key as a JSON array, " + when + "."
}

// describe writes a description, or nothing for an empty one.
func describe(indent, text string) string { return description(printable(text), indent, true) }

// printable is a comment of the database as a description can hold it: no control characters, no blank ends.
func printable(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(strings.ToValidUTF8(s, "\uFFFD"))
}
