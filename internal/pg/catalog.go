package pg

import (
	"context"
	_ "embed" // the queries are files
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

var (
	//go:embed catalog.sql
	catalogColumns string
	//go:embed catalog_types.sql
	catalogTypes string
	//go:embed catalog_policies.sql
	catalogPolicies string
	//go:embed catalog_version.sql
	catalogVersion string
)

// Catalog reads the watched tables, as of one moment, and a version that is another when they are.
func (s *Source) Catalog(ctx context.Context) (catalog.Catalog, string, error) {
	c, version, err := readCatalog(ctx, s.pool)
	return c, version, explain(err, s.pool.Config().ConnConfig)
}

// readCatalog takes one round trip.
func readCatalog(ctx context.Context, pool *pgxpool.Pool) (c catalog.Catalog, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var batch pgx.Batch
	batch.Queue("begin isolation level repeatable read, read only")
	batch.Queue(catalogVersion).QueryRow(func(row pgx.Row) error { return row.Scan(&version) })
	var types map[uint32]*catalog.Type
	batch.Queue(catalogTypes).Query(func(rows pgx.Rows) error {
		types, err = scanTypes(rows)
		return err
	})
	batch.Queue(catalogColumns).Query(func(rows pgx.Rows) error {
		c, err = scanTables(rows, types)
		return err
	})
	batch.Queue(catalogPolicies).Query(func(rows pgx.Rows) error { return scanPolicies(rows, c.Tables) })
	batch.Queue("commit")
	if err := pool.SendBatch(ctx, &batch).Close(); err != nil {
		return catalog.Catalog{}, "", err
	}
	return c, version, nil
}

// scanTypes reads the types and links each to what it is made of.
func scanTypes(rows pgx.Rows) (map[uint32]*catalog.Type, error) {
	types, elems := map[uint32]*catalog.Type{}, map[uint32]uint32{}
	for rows.Next() {
		var t catalog.Type
		var kind string
		var elem uint32
		var array bool
		if err := rows.Scan(&t.OID, &t.Schema, &t.Name, &kind, &elem, &array, &t.Labels); err != nil {
			return nil, err
		}
		t.Kind = kindOf(kind, array)
		if t.Kind != catalog.Enum {
			t.Labels = nil
		}
		types[t.OID], elems[t.OID] = &t, elem
	}
	for oid, t := range types {
		t.Elem = types[elems[oid]]
	}
	return types, rows.Err()
}

func kindOf(typtype string, array bool) catalog.Kind {
	switch k := catalog.Kind(typtype[0]); {
	case array:
		return catalog.Array
	case k == catalog.Enum, k == catalog.Domain, k == catalog.Range, k == catalog.MultiRange, k == catalog.Composite:
		return k
	}
	return catalog.Base
}

// keyColumn is a column of a primary key and its place in it.
type keyColumn struct {
	name  string
	place int64
}

func scanTables(rows pgx.Rows, types map[uint32]*catalog.Type) (c catalog.Catalog, err error) {
	var key []keyColumn
	for rows.Next() {
		var t catalog.Table
		var watch int32
		var number *int16
		var name *string
		var comment string
		var notNull *bool
		var typ *uint32
		var place *int64
		if err := rows.Scan(&watch, &t.OID, &t.Schema, &t.Name, &t.Comment, &t.TenantColumn, &t.Shared, &t.TypeName, &t.FieldName,
			&number, &name, &comment, &notNull, &typ, &place); err != nil {
			return c, err
		}
		t.Watch = change.WatchID(watch)
		if n := len(c.Tables); n == 0 || c.Tables[n-1].Watch != t.Watch {
			c.Tables, key = append(c.Tables, t), nil
		}
		table := &c.Tables[len(c.Tables)-1]
		if number == nil || types[*typ] == nil {
			continue
		}
		table.Columns = append(table.Columns, catalog.Column{Number: *number, Name: *name, Comment: comment, NotNull: *notNull, Type: types[*typ]})
		if place != nil {
			key = append(key, keyColumn{*name, *place})
			slices.SortFunc(key, func(a, b keyColumn) int { return int(a.place - b.place) })
			table.Key = table.Key[:0]
			for _, k := range key {
				table.Key = append(table.Key, k.name)
			}
		}
	}
	return c, rows.Err()
}

// scanPolicies reads the policies into their tables, which ascend by Watch. One of a kind that is not known lets nobody through.
func scanPolicies(rows pgx.Rows, tables []catalog.Table) error {
	for rows.Next() {
		var watch int32
		var kind string
		var p catalog.Policy
		var member *int32
		var key, user *int16
		if err := rows.Scan(&watch, &kind, &p.Column, &p.Claim, &p.Roles, &member, &key, &user); err != nil {
			return err
		}
		switch kind {
		case "row":
			p.Kind = catalog.RowPolicy
		case "column":
			p.Kind = catalog.ColumnPolicy
		case "member":
			p.Kind = catalog.MemberPolicy
			if member != nil {
				p.Member = &catalog.Member{Watch: change.WatchID(*member), Key: *key, User: *user}
			}
		default:
			p = catalog.Policy{Kind: catalog.RowPolicy}
		}
		at, ok := slices.BinarySearchFunc(tables, change.WatchID(watch), func(t catalog.Table, w change.WatchID) int { return int(t.Watch) - int(w) })
		if !ok {
			return fmt.Errorf("a policy of table %d, which is not among the watched tables", watch)
		}
		tables[at].Policies = append(tables[at].Policies, p)
	}
	return rows.Err()
}
