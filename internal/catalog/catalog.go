// Package catalog describes the watched tables as the database has them: plain values that pg reads and gql builds a
// schema from. It holds no behaviour of either.
package catalog

import "github.com/notifyql/notifyql/internal/change"

// Catalog is all that is watched, at one moment.
type Catalog struct {
	Tables []Table // by Watch, ascending
}

// Table is a watched table.
type Table struct {
	Watch        change.WatchID
	OID          uint32
	Schema, Name string
	Comment      string
	TenantColumn string // or the way to it through a foreign key; empty if Shared, or if it is gone: then nobody sees its rows
	Shared       bool
	TypeName     string   // asked for in watch; empty: from the name
	FieldName    string   // asked for in watch; empty: from the name
	Columns      []Column // by attribute number; excluded ones are left out
	Key          []string // names of the primary key's columns, in key order; nil: no primary key
	Policies     []Policy // who sees which rows and columns, beyond the tenants; all of them hold
}

// Policy limits who sees a table's rows, or one of its columns.
type Policy struct {
	Kind   PolicyKind
	Column int16    // the column's number; of a RowPolicy zero, if it is gone: then only who bypasses the policy sees rows
	Claim  string   // of a RowPolicy: the claim that has the column's value; empty: the user's id
	Roles  []string // that see all rows; or, of a ColumnPolicy, the only ones that see the column
	Member *Member  // of a MemberPolicy; nil if what it needs is gone: then only who bypasses it sees rows
}

// Member is what a MemberPolicy needs of the member table, another watched table or the same.
type Member struct {
	Watch change.WatchID
	Key   int16 // the number of the column that a row's column must equal
	User  int16 // and of that which must have the claim's value, or the user's id
}

// PolicyKind tells what a Policy is about.
type PolicyKind byte

// The kinds of policies.
const (
	RowPolicy    PolicyKind = 'r' // rows whose column has a value of the identity's
	ColumnPolicy PolicyKind = 'c'
	MemberPolicy PolicyKind = 'm' // rows whose column equals one of the identity's rows of another table
)

// Column is a column that subscribers can see.
type Column struct {
	Number  int16 // attnum: stable through renames
	Name    string
	Comment string
	NotNull bool
	Type    *Type
}

// Kind tells what a Type is made of.
type Kind byte

// The kinds of types, as pg_type.typtype and typcategory tell them.
const (
	Base       Kind = 'b'
	Enum       Kind = 'e'
	Domain     Kind = 'd' // Elem is the type below
	Array      Kind = 'a' // Elem is the element
	Range      Kind = 'r' // Elem is the subtype
	MultiRange Kind = 'm' // Elem is the range
	Composite  Kind = 'c'
)

// Type is a column's type.
type Type struct {
	OID    uint32
	Schema string
	Name   string // typname, such as int4, timestamptz, _text
	Kind   Kind
	Elem   *Type
	Labels []string // of an enum, in its order
}
