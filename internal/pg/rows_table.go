package pg

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/change"
)

// rowTable is a watched table, as a snapshot knows it.
type rowTable struct {
	oid          uint32
	schema, name string
	partitioned  bool
	shared       bool
	tenant       string      // the tenant column; empty: the rows are shared, or nobody's
	tenantType   uint32      // below any domains
	tenantArray  uint32      // the type of arrays of it
	labels       []string    // its values, if it is an enum
	via          *rowWay     // the tenant column is of another table; nil: of this one
	columns      []rowColumn // those that are seen
	key          []string    // the primary key's columns that are seen
	large        bool        // its values may be of many megabytes
}

// rowWay leads to a row's tenant through a foreign key.
type rowWay struct {
	own          string // the foreign key's column
	oid          uint32 // of the table that it refers to
	schema, name string
	partitioned  bool
	key          string // by this column
	keyNumber    int16
	tenantNumber int16
}

// rowColumn is a column of it.
type rowColumn struct {
	number  int16
	name    string
	as      written
	sql     string // the value, given the column
	text    bool   // it is ordered as text
	size    string // of its text, in bytes, given the column; empty: it is never very large, or that can't be told cheaply
	foreign bool   // its conversion runs users' code
}

const (
	// selectTable finds a watched table, what keeps its rows from being read, and who reads.
	selectTable = `
	select c.oid, n.nspname, c.relname, c.relkind::text, w.confirmed and w.rel = w.rel_oid, w.shared,
	       coalesce(a.attname, ''), coalesce(y.oid, 0), coalesce(y.typarray, 0),
	       array(select e.enumlabel::text from pg_enum e where e.enumtypid = y.oid),
	       exists (select from pg_partition_tree(c.oid) t join pg_class k on k.oid = t.relid where k.relkind = 'f'),
	       -- a text of 256 MB that is compressed as well as it can be
	       exists (select from (select c.oid union select relid from pg_partition_tree(c.oid)) t (oid) join pg_class k using (oid)
	                where k.reltoastrelid <> 0 and pg_relation_size(k.reltoastrelid) > 500000),
	       case when row_security_active(c.oid) then c.oid::regclass::text when row_security_active(p.oid) then p.oid::regclass::text else '' end,
	       current_user::text,
	       p.oid, p.nspname, p.relname, p.relkind::text, p.own, p.key, (w.via).key, w.tenant_attnum
	from notifyql.watch w
	left join pg_class c on c.oid = w.rel
	left join pg_namespace n on n.oid = c.relnamespace
	left join lateral (
	  select p.oid, s.nspname, p.relname, p.relkind, own.attname as own, key.attname as key
	    from pg_class p
	    join pg_namespace s on s.oid = p.relnamespace
	    join pg_attribute own on own.attrelid = c.oid and own.attnum = (w.via).attnum
	    join pg_attribute key on key.attrelid = p.oid and key.attnum = (w.via).key
	   where p.oid = (w.via).rel and notifyql.path(w.rel, w.via, w.tenant_attnum) = (w.via).path) p on true
	left join pg_attribute a on a.attrelid = case when (w.via).fk is null then c.oid else p.oid end and a.attnum = w.tenant_attnum
	     and a.attname = w.tenant_column and not a.attisdropped and not w.shared
	left join pg_type y on y.oid = notifyql.plain_type(a.atttypid)
	where w.id = $1`

	// selectColumns finds the columns that are seen, what their values are made of, and whether the conversion of that to json
	// runs a cast of somebody's.
	selectColumns = `
	with recursive seen as (
	  select a.attnum, a.attname, a.atttypid, a.attgenerated,
	         (select k.place from pg_index i, unnest(i.indkey::int2[]) with ordinality k (attnum, place)
	           where i.indrelid = a.attrelid and i.indisprimary and k.attnum = a.attnum) as place
	    from notifyql.watch w join pg_attribute a on a.attrelid = w.rel
	   where w.id = $1 and a.attnum > 0 and not a.attisdropped and not a.attnum = any (w.exclude)
	), part as (
	  select s.attnum, s.atttypid as type, true as whole from seen s
	  union
	  select p.attnum, n.type, n.whole
	    from part p join pg_type t on t.oid = p.type
	   cross join lateral (
	     select t.typbasetype, p.whole where t.typbasetype <> 0
	     union all select t.typelem, false where t.typelem <> 0
	     union all select f.atttypid, false from pg_attribute f
	                where t.typrelid <> 0 and f.attrelid = t.typrelid and f.attnum > 0 and not f.attisdropped) n (type, whole)
	)
	select s.attnum, s.attname, s.attgenerated = 'v', coalesce(s.place, 0), t.oid,
	       t.typtype = 'c' or t.typlen = -1 and t.typelem <> 0,
	       exists (select from part p join pg_cast k on k.castsource = p.type and k.casttarget = 'json'::regtype and k.castmethod = 'f'
	                where p.attnum = s.attnum and p.type >= 16384)
	from seen s
	join part p on p.attnum = s.attnum and p.whole
	join pg_type t on t.oid = p.type and t.typtype <> 'd'
	order by s.attnum`
)

// scanTable reads the answer of selectTable. An error that wraps change.ErrUnreadable says what to do.
func scanTable(rows pgx.Rows, watch change.WatchID) (t rowTable, err error) {
	defer rows.Close()
	if !rows.Next() {
		if rows.Err() != nil {
			return t, rows.Err()
		}
		return t, unreadable(nil, "table %d is not watched any more", watch)
	}
	var oid, parent pgtype.Uint32
	var schema, name, kind, parentSchema, parentName, parentKind, own, key pgtype.Text
	var keyNumber, tenantNumber pgtype.Int2
	var confirmed, foreign *bool
	var secured, login string
	if err := rows.Scan(&oid, &schema, &name, &kind, &confirmed, &t.shared, &t.tenant, &t.tenantType, &t.tenantArray, &t.labels, &foreign, &t.large, &secured, &login,
		&parent, &parentSchema, &parentName, &parentKind, &own, &key, &keyNumber, &tenantNumber); err != nil {
		return t, err
	}
	t.oid, t.schema, t.name = oid.Uint32, schema.String, name.String
	t.partitioned = kind.String == "p"
	if parent.Valid {
		t.via = &rowWay{own.String, parent.Uint32, parentSchema.String, parentName.String, parentKind.String == "p", key.String, keyNumber.Int16, tenantNumber.Int16}
	}
	switch {
	case !oid.Valid || confirmed == nil || !*confirmed:
		return t, unreadable(nil, "table %d is gone, or not watched any more", watch)
	case kind.String != "r" && kind.String != "p":
		return t, unreadable(nil, "%s is not a table any more", t.quoted())
	case foreign != nil && *foreign:
		return t, unreadable(nil, "a partition of %s is a foreign table, whose changes would not arrive", t.quoted())
	case secured != "":
		return t, unreadable(nil, "row level security is on for %s and would hide rows from login %q: run as a superuser: alter role %s bypassrls",
			secured, login, pgx.Identifier{login}.Sanitize())
	}
	return t, rows.Err()
}

// What Postgres calls types with a text of their own kind, by oid (src/include/catalog/pg_type.dat).
var (
	numberTypes = []uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID}
	jsonTypes   = []uint32{pgtype.JSONOID, pgtype.JSONBOID}
	timeTypes   = []uint32{pgtype.TimestampOID, pgtype.TimestamptzOID}
	textTypes   = []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID}
)

// scanColumns reads the answer of selectColumns.
func (t *rowTable) scanColumns(rows pgx.Rows) error {
	type keyPart struct {
		place int64
		name  string
	}
	var key []keyPart
	for rows.Next() {
		var c rowColumn
		var place int64
		var typ uint32
		var virtual, nested bool
		if err := rows.Scan(&c.number, &c.name, &virtual, &place, &typ, &nested, &c.foreign); err != nil {
			return err
		}
		name := pgx.Identifier{c.name}.Sanitize()
		c.text = slices.Contains(textTypes, typ)
		switch typ {
		case pgtype.TextOID, pgtype.VarcharOID:
			c.size = "octet_length(" + name + ")::bigint"
		case pgtype.ByteaOID:
			c.size = "octet_length(" + name + ")::bigint * 2"
		}
		c.sql = name
		switch {
		case virtual:
			c.as, c.foreign = asNull, false
		case c.foreign:
			c.as, c.sql = asJSON, "notifyql.convert("+name+")"
		case nested:
			c.as, c.sql = asJSON, "to_json("+name+")"
		case slices.Contains(timeTypes, typ):
			c.as = asTime
		case slices.Contains(jsonTypes, typ):
			c.as = asJSON
		case slices.Contains(numberTypes, typ):
			c.as = asNumber
		case typ == pgtype.BoolOID:
			c.as = asBool
		}
		if place > 0 {
			key = append(key, keyPart{place, c.name})
		}
		t.columns = append(t.columns, c)
	}
	slices.SortFunc(key, func(a, b keyPart) int { return int(a.place - b.place) })
	for _, k := range key {
		t.key = append(t.key, k.name)
	}
	return rows.Err()
}

// quoted is the table's name as SQL has it.
func (t *rowTable) quoted() string { return pgx.Identifier{t.schema, t.name}.Sanitize() }

// from is the relation that is read. What inherits from it is watched by itself, if at all.
func (t *rowTable) from() string { return only(t.quoted(), t.partitioned) }

func only(name string, partitioned bool) string {
	if partitioned {
		return name
	}
	return "only " + name
}

// quoted is the name, as SQL has it, of the table that a way leads to.
func (w *rowWay) quoted() string { return pgx.Identifier{w.schema, w.name}.Sanitize() }

// column is a column of that table, in a query of parents.
func (w *rowWay) column(name string) string {
	return pgx.Identifier{"notifyql parent", name}.Sanitize()
}

// parents selects from that table, where nothing but its columns has a name.
func (w *rowWay) parents(what, condition string) string {
	return "select " + what + " from " + only(w.quoted(), w.partitioned) + ` as "notifyql parent" where ` + condition
}

func (t *rowTable) column(name string) *rowColumn {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// foreign reports whether reading the table runs users' code.
func (t *rowTable) foreign() bool {
	return slices.ContainsFunc(t.columns, func(c rowColumn) bool { return c.foreign })
}

// Names in the query of rows. A table that has a column by the second one can't be read.
const (
	rowsAlias = `"notifyql rows"`
	tooLarge  = `"notifyql too large"`
)

// rowsQuery is a query for rows of a table. In its answer are the columns' values, but for those that do not come, then
// whether they are too large, if that is looked at, and then the tenant, if it is none of the values.
type rowsQuery struct {
	sql     string
	values  [][]byte // of the parameters, as text
	types   []uint32 // of the parameters; 0: to be found out
	sizes   int      // which of a row's values says whether others are too large; 0: none
	owner   int      // which of them is the tenant
	tenants []string // whose rows they are; nil: everybody's
}

func (q *rowsQuery) parameter(value string, oid uint32) string {
	q.values = append(q.values, []byte(value))
	q.types = append(q.types, oid)
	return "$" + strconv.Itoa(len(q.values))
}

// tenant is the tenant of a row with these values.
func (q *rowsQuery) tenant(values [][]byte) string {
	switch len(q.tenants) {
	case 0:
		return ""
	case 1:
		return q.tenants[0]
	}
	i, _ := slices.BinarySearchFunc(q.tenants, values[q.owner], func(a string, b []byte) int {
		switch {
		case a < string(b):
			return -1
		case a > string(b):
			return 1
		}
		return 0
	})
	return q.tenants[i]
}

// tooLarge reports whether a row has no image for its size. Its large values are not among the others then.
func (q *rowsQuery) tooLarge(values [][]byte) bool {
	return q.sizes > 0 && string(values[q.sizes]) == "t"
}

// query makes the query of the rows that q asks for; none is true if there can't be any. The conversions are outside of what
// orders and limits, so that they are for rows that are wanted only; and the condition is where nothing but the table's columns
// has a name.
func (t *rowTable) query(q *change.Query, member *rowTable) (rq rowsQuery, none bool, err error) {
	for _, arg := range q.Args {
		text, ok := arg.(string)
		if !ok {
			return rq, false, fmt.Errorf("a parameter is a %T, want a string", arg)
		}
		rq.parameter(text, 0)
	}
	var where []string
	if !t.shared {
		condition := t.ofTenants(&rq, rowsAlias, q.Tenants)
		if condition == "" {
			return rq, true, nil
		}
		where = append(where, condition)
	}
	if q.Where != "" {
		where = append(where, "("+q.Where+")")
	}
	if q.Among != nil {
		condition, err := t.among(&rq, q, member)
		if err != nil || condition == "" {
			return rq, true, err
		}
		where = append(where, condition)
	}
	order, err := t.orderBy(q)
	if err != nil {
		return rq, false, err
	}

	var inner, outer, sizes []string
	rq.owner = -1
	for i := range t.columns {
		c := &t.columns[i]
		if c.as == asNull {
			continue
		}
		inner = append(inner, pgx.Identifier{c.name}.Sanitize())
		if t.via == nil && c.name == t.tenant && (c.as == asText || c.as == asNumber) {
			rq.owner = len(outer)
			outer = append(outer, c.sql)
		} else if t.large && c.size != "" {
			sizes = append(sizes, "coalesce("+c.size+", 0)")
			outer = append(outer, "case when not "+tooLarge+" then "+c.sql+" end")
		} else {
			outer = append(outer, c.sql)
		}
	}
	var b strings.Builder
	b.WriteString("select " + strings.Join(inner, ", ") + " from " + t.from() + " as " + rowsAlias)
	if len(where) > 0 {
		b.WriteString(" where " + strings.Join(where, " and "))
	}
	if len(order) > 0 {
		b.WriteString(" order by " + strings.Join(order, ", "))
	}
	if q.Limit > 0 {
		b.WriteString(" limit " + strconv.FormatInt(q.Limit, 10))
	}
	from := "(" + b.String() + ") " + rowsAlias
	if len(sizes) > 0 {
		from = "(select *, " + strings.Join(sizes, " + ") + " > " + strconv.Itoa(maxImage) + " as " + tooLarge + " from " + from + " offset 0) " + rowsAlias
		rq.sizes = len(outer)
		outer = append(outer, tooLarge)
	}
	if len(rq.tenants) > 1 && rq.owner < 0 {
		rq.owner = len(outer)
		tenant := "concat(" + pgx.Identifier{t.tenant}.Sanitize() + ")"
		if v := t.via; v != nil {
			tenant = "(" + v.parents("concat("+v.column(t.tenant)+")", v.column(v.key)+" = "+rowsAlias+"."+pgx.Identifier{v.own}.Sanitize()) + ")"
		}
		outer = append(outer, tenant)
	}
	rq.sql = "select " + strings.Join(outer, ", ") + " from " + from
	return rq, false, nil
}

// orderBy is the order that q asks for. The primary key decides between rows that are equal in it, and which rows a limit takes.
func (t *rowTable) orderBy(q *change.Query) (order []string, err error) {
	has := map[string]bool{}
	add := func(o change.OrderBy) error {
		c := t.column(o.Column)
		if c == nil || c.as == asNull {
			return unreadable(nil, "%s has no column %q by which its rows can be ordered", t.quoted(), o.Column)
		}
		has[c.name] = true
		term := rowsAlias + "." + pgx.Identifier{c.name}.Sanitize()
		if c.text {
			term += `::text collate "C"`
		}
		term += [...]string{" asc", " desc"}[index(o.Descending)] + [...]string{" nulls last", " nulls first"}[index(o.NullsFirst)]
		order = append(order, term)
		return nil
	}
	for _, o := range q.OrderBy {
		if err := add(o); err != nil {
			return nil, err
		}
	}
	if len(order) == 0 && q.Limit == 0 {
		return nil, nil
	}
	for _, name := range t.key {
		if !has[name] {
			order = append(order, rowsAlias+"."+pgx.Identifier{name}.Sanitize())
		}
	}
	return order, nil
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

var uuidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func isInt(name string) bool {
	n, err := strconv.ParseInt(name, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == name
}

// ofTenants is the condition that a row belongs to one of the tenants, empty if none can. Capture writes a tenant as its type's
// output function does, which is what concat takes. Where that text and the value say the same, the value is asked for, which
// an index may have.
func (t *rowTable) ofTenants(q *rowsQuery, alias string, tenants []string) string {
	if t.tenant == "" {
		return ""
	}
	name := pgx.Identifier{t.tenant}.Sanitize()
	if t.via != nil {
		name = t.via.column(t.tenant)
	}
	text, array := name, t.tenantArray
	written := func(name string) bool { return name != "" && strings.IndexByte(name, 0) < 0 }
	switch {
	case t.tenantType == pgtype.Int2OID, t.tenantType == pgtype.Int4OID, t.tenantType == pgtype.Int8OID:
		array, written = pgtype.Int8ArrayOID, isInt
	case t.tenantType == pgtype.UUIDOID:
		written = uuidText.MatchString
	case len(t.labels) > 0:
		written = func(name string) bool { return slices.Contains(t.labels, name) }
	case t.tenantType == pgtype.TextOID, t.tenantType == pgtype.VarcharOID:
		array = pgtype.TextArrayOID
	default:
		text, array = "concat("+name+")", pgtype.TextArrayOID
	}
	tenants = slices.DeleteFunc(slices.Clone(tenants), func(name string) bool { return !written(name) })
	slices.Sort(tenants)
	if q.tenants = slices.Compact(tenants); len(q.tenants) == 0 {
		return ""
	}
	among := " = any(" + q.parameter(arrayText(q.tenants), array) + ")"
	condition := text + among
	if array == pgtype.TextArrayOID {
		condition += " and " + text + ` collate "C"` + among // its own collation may take different texts for equal
	}
	if v := t.via; v != nil {
		return alias + "." + pgx.Identifier{v.own}.Sanitize() + " in (" + v.parents(v.column(v.key), condition) + ")"
	}
	return condition
}

// arrayText is the text of an array of text.
func arrayText(elements []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		for j := range len(e) {
			if e[j] == '"' || e[j] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(e[j])
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
