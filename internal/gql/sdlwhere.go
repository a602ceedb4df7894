package gql

import (
	"fmt"
	"strings"
)

// writeComparedTypes writes the input types of filters, and the range types, that some table uses.
func (b *builder) writeComparedTypes() {
	for _, name := range comparedTypes {
		doc := ""
		switch name {
		case "String":
			doc = "Text is compared byte by byte."
		case "Float":
			doc = "NaN is equal to NaN and greater than all else."
		case "Duration":
			doc = "A month counts as 30 days, a day as 24 hours."
		}
		b.writeCompared(name, doc)
	}
	for _, special := range specialWheres {
		if b.used[special.name] {
			b.sdl.WriteString(special.sdl)
		}
	}
}

// specialWheres are the input types that are of no one scalar.
var specialWheres = []struct{ name, sdl string }{
	{"OpaqueWhere", `
"For a type that is compared by its text, and only for equality."
input OpaqueWhere {
  eq: String
  ne: String
  in: [String!]
  notIn: [String!]
  isNull: Boolean
}
`},
	{"NullWhere", `
"For a type that is not compared."
input NullWhere {
  isNull: Boolean
}
`},
	{"ListWhere", `
"For a list whose elements are not compared."
input ListWhere {
  isEmpty: Boolean
  isNull: Boolean
}
`},
	{"RangeWhere", `
"For a range in which no value is looked for."
input RangeWhere {
  isEmpty: Boolean
  isNull: Boolean
}
`},
	{"JSONWhere", `
"JSON's null counts as NULL."
input JSONWhere {
  eq: JSON
  ne: JSON
  "As jsonb's @>: objects contain those with some of their members, arrays those with some of their elements."
  contains: JSON
  "The object has the key, or the array the string."
  hasKey: String
  "Each asks about the value at one place."
  path: [JSONPathWhere!]
  isNull: Boolean
}

"About the value at a place in a JSON document. What is not there counts as NULL."
input JSONPathWhere {
  "Keys of objects and places in arrays, from the outside in. Negative places count from the end. Empty: the document."
  at: [String!]! = []
  eq: JSON
  ne: JSON
  "Orders numbers with numbers and strings with strings; a value of another kind counts as NULL."
  gt: JSON
  gte: JSON
  lt: JSON
  lte: JSON
  contains: JSON
  hasKey: String
  isNull: Boolean
}
`},
}

// writeCompared writes what a scalar or an enum brings with it, as far as it is used.
func (b *builder) writeCompared(name, doc string) {
	w := &b.sdl
	if b.used[name+"Where"] {
		fmt.Fprintf(w, "\n%sinput %sWhere {\n", describe("", doc), name)
		for _, op := range []string{"eq", "ne", "gt", "gte", "lt", "lte"} {
			fmt.Fprintf(w, "  %s: %s\n", op, name)
		}
		fmt.Fprintf(w, "  in: [%[1]s!]\n  notIn: [%[1]s!]\n", name)
		if name == "String" {
			w.WriteString(patternFields)
		}
		w.WriteString("  isNull: Boolean\n}\n")
	}
	if b.used[name+"ListWhere"] {
		fmt.Fprintf(w, strings.ReplaceAll(listWhere, "%", "%[1]s"), name)
	}
	if b.used[name+"Range"] {
		fmt.Fprintf(w, strings.ReplaceAll(rangeType, "%", "%[1]s"), name)
	}
	if b.used[name+"RangeWhere"] {
		fmt.Fprintf(w, strings.ReplaceAll(rangeWhere, "%", "%[1]s"), name)
	}
}

const patternFields = `  """
  A pattern: % stands for any characters, _ for one, \\ takes the next character as it is.
  """
  like: String
  "The same; letters of ASCII match in either case."
  ilike: String
  contains: String
  startsWith: String
  endsWith: String
`

const listWhere = `
input %ListWhere {
  has: %
  hasAny: [%!]
  hasAll: [%!]
  isEmpty: Boolean
  isNull: Boolean
}
`

const rangeType = `
type %Range {
  "Null: no bound, or the range is empty."
  lower: %
  "Null: no bound, or the range is empty."
  upper: %
  lowerInclusive: Boolean!
  upperInclusive: Boolean!
  isEmpty: Boolean!
}
`

const rangeWhere = `
input %RangeWhere {
  "The value lies in the range."
  contains: %
  isEmpty: Boolean
  isNull: Boolean
}
`
