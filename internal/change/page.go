package change

import "errors"

// Page is what was read of the history in one go, from one place to another.
type Page struct {
	Txns    []Passed
	Next    Cursor // the place behind the page
	Arrived bool   // it is the place that was to be reached
}

// Passed is a transaction, or a part of one, that a page passes: what of it is of the topic and the tenants that were asked
// for, in canonical order.
type Passed struct {
	Before  *Point // as in Txn
	Changes []Change
	Whole   bool // no more of the transaction follows
}

// ErrOtherEra says that the database has begun another life since the place to be reached was named: what is there now must
// be found out first.
var ErrOtherEra = errors.New("the database server was started anew")

// ErrTarget says that the place to be reached is not there, or not ahead of the cursor: another one must be named.
var ErrTarget = errors.New("another place to be reached is needed")

// Query asks for the rows of a watched table as they stand.
type Query struct {
	Watch   WatchID
	Tenants []string // whose rows, besides those of a shared table; empty names are nobody's
	Where   string   // an SQL condition on the table's columns with the parameters $1, $2, …, all of them text; empty: all rows
	Args    []any
	OrderBy []OrderBy
	Limit   int64 // rows; 0: all
	Among   *Among
	Quick   bool // the pages are taken without waiting for anybody, so that the reading waits for none that are not
}

// Among leaves of a Query's rows those of which a column has the same value as a column of some row of another watched table, the
// member table. Of that the tenants are those of the Query.
type Among struct {
	Column string
	Watch  WatchID // the member table
	Key    string  // its column
	Where  string  // a condition on its columns; its parameters are in the Query's Args, behind those of the Query's own
}

// OrderBy orders rows by a column. Text is ordered by its bytes.
type OrderBy struct {
	Column     string
	Descending bool
	NullsFirst bool
}

// ErrUnreadable says that the rows of a table can't be read as they stand, and that trying again will not change that.
var ErrUnreadable = errors.New("the table's rows can't be read")
