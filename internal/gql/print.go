package gql

import (
	"slices"
	"sort"
	"strings"
	"unicode/utf16"

	"github.com/vektah/gqlparser/v2/ast"
)

// printSchema writes a schema as graphql-js does, types sorted by name and everything else in its order: what a client
// prints from our introspection is the same text.
func printSchema(s *ast.Schema) string {
	var blocks []string
	directives := make([]string, 0, len(s.Directives))
	for name, d := range s.Directives {
		if d.Position == nil || d.Position.Src == nil || !d.Position.Src.BuiltIn {
			directives = append(directives, name)
		}
	}
	sort.Strings(directives)
	for _, name := range directives {
		blocks = append(blocks, printDirective(s.Directives[name]))
	}
	names := make([]string, 0, len(s.Types))
	for name, d := range s.Types {
		if !d.BuiltIn {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		blocks = append(blocks, printDefinition(s.Types[name]))
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

func printDefinition(d *ast.Definition) string {
	var b strings.Builder
	b.WriteString(description(d.Description, "", true))
	switch d.Kind {
	case ast.Scalar:
		b.WriteString("scalar " + d.Name)
		if dir := d.Directives.ForName("specifiedBy"); dir != nil {
			b.WriteString(" @specifiedBy(url: " + quote(dir.Arguments.ForName("url").Value.Raw) + ")")
		}
	case ast.Object, ast.Interface:
		keyword := "type "
		if d.Kind == ast.Interface {
			keyword = "interface "
		}
		b.WriteString(keyword + d.Name)
		if len(d.Interfaces) > 0 {
			b.WriteString(" implements " + strings.Join(d.Interfaces, " & "))
		}
		printFields(&b, d.Fields)
	case ast.Union:
		b.WriteString("union " + d.Name + " = " + strings.Join(d.Types, " | "))
	case ast.Enum:
		b.WriteString("enum " + d.Name + " {\n")
		for i, v := range d.EnumValues {
			b.WriteString(description(v.Description, "  ", i == 0))
			b.WriteString("  " + v.Name + deprecated(v.Directives) + "\n")
		}
		b.WriteString("}")
	case ast.InputObject:
		b.WriteString("input " + d.Name)
		if d.Directives.ForName("oneOf") != nil {
			b.WriteString(" @oneOf")
		}
		b.WriteString(" {\n")
		for i, f := range d.Fields {
			b.WriteString(description(f.Description, "  ", i == 0))
			b.WriteString("  " + f.Name + ": " + f.Type.String() + defaultValue(f.DefaultValue) + deprecated(f.Directives) + "\n")
		}
		b.WriteString("}")
	}
	return b.String()
}

func printFields(b *strings.Builder, fields ast.FieldList) {
	b.WriteString(" {\n")
	first := true
	for _, f := range fields {
		if strings.HasPrefix(f.Name, "__") {
			continue
		}
		b.WriteString(description(f.Description, "  ", first))
		b.WriteString("  " + f.Name + printArguments(f.Arguments, "  ") + ": " + f.Type.String() + deprecated(f.Directives) + "\n")
		first = false
	}
	b.WriteString("}")
}

func printArguments(args ast.ArgumentDefinitionList, indent string) string {
	if len(args) == 0 {
		return ""
	}
	var b strings.Builder
	described := slices.ContainsFunc(args, func(a *ast.ArgumentDefinition) bool { return a.Description != "" })
	b.WriteByte('(')
	for i, a := range args {
		switch {
		case described:
			b.WriteByte('\n')
			b.WriteString(description(a.Description, "  "+indent, i == 0))
			b.WriteString("  " + indent)
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(a.Name + ": " + a.Type.String() + defaultValue(a.DefaultValue) + deprecated(a.Directives))
	}
	if described {
		b.WriteString("\n" + indent)
	}
	b.WriteByte(')')
	return b.String()
}

func printDirective(d *ast.DirectiveDefinition) string {
	var b strings.Builder
	b.WriteString(description(d.Description, "", true))
	b.WriteString("directive @" + d.Name + printArguments(d.Arguments, ""))
	if d.IsRepeatable {
		b.WriteString(" repeatable")
	}
	b.WriteString(" on ")
	for i, l := range d.Locations {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(string(l))
	}
	return b.String()
}

func defaultValue(v *ast.Value) string {
	if v == nil {
		return ""
	}
	return " = " + printValue(v)
}

// printValue writes a constant value as graphql-js does.
func printValue(v *ast.Value) string {
	var parts []string
	switch v.Kind {
	case ast.ListValue:
		for _, c := range v.Children {
			parts = append(parts, printValue(c.Value))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case ast.ObjectValue:
		for _, c := range v.Children {
			parts = append(parts, c.Name+": "+printValue(c.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return v.String()
}

func deprecated(dirs ast.DirectiveList) string {
	dir := dirs.ForName("deprecated")
	if dir == nil {
		return ""
	}
	reason := deprecationReason(dir)
	if reason == defaultDeprecation {
		return " @deprecated"
	}
	return " @deprecated(reason: " + quote(reason) + ")"
}

const defaultDeprecation = "No longer supported"

func deprecationReason(dir *ast.Directive) string {
	if a := dir.Arguments.ForName("reason"); a != nil && a.Value.Kind != ast.NullValue {
		return a.Value.Raw
	}
	return defaultDeprecation
}

// description is a text before what it describes; all but the first in a block have an empty line before them.
func description(text, indent string, first bool) string {
	if text == "" {
		return ""
	}
	gap := ""
	if indent != "" && !first {
		gap = "\n"
	}
	quoted := quote(text)
	if isBlock(text) {
		quoted = blockString(text)
	}
	return gap + indent + strings.ReplaceAll(quoted, "\n", "\n"+indent) + "\n"
}

// quote writes a GraphQL string.
func quote(text string) string { return (&ast.Value{Kind: ast.StringValue, Raw: text}).String() }

// isBlock reports whether a block string holds the text as it is: those lose blank first and last lines and common
// indent, and have no escapes.
func isBlock(text string) bool {
	lines := strings.Split(text, "\n")
	indented := len(lines) > 1
	for i, l := range lines {
		rest := strings.TrimLeft(l, " \t")
		if rest == "" {
			if i == 0 || i == len(lines)-1 {
				return false
			}
			continue
		}
		if len(rest) == len(l) {
			indented = false
		}
	}
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r < 0x10 && r != '\n' && r != '\t' })
	return printable && !indented
}

// blockString writes text between three quotation marks, on lines of its own unless it is short.
func blockString(text string) string {
	escaped := strings.ReplaceAll(text, `"""`, `\"""`)
	lines := strings.Split(escaped, "\n")
	single := len(lines) == 1
	blank := func(s string) bool { return s[0] == ' ' || s[0] == '\t' }
	force := !single && !slices.ContainsFunc(lines[1:], func(l string) bool { return l != "" && !blank(l) })
	triple := strings.HasSuffix(escaped, `\"""`)
	trailing := strings.HasSuffix(text, `"`) && !triple || strings.HasSuffix(text, `\`)
	multiple := !single || len(utf16.Encode([]rune(text))) > 70 || trailing || triple

	before, after := "", ""
	if multiple && !(single && blank(text)) || force {
		before = "\n"
	}
	if multiple {
		after = "\n"
	}
	return `"""` + before + escaped + after + `"""`
}
