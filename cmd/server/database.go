package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/pg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// databaseFlags registers --database-url.
func (p *program) databaseFlags(fs *flag.FlagSet, s *settings) error {
	return p.register(fs, s, "database-url")
}

func (p *program) migrate(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("migrate", "up|down|version|sql")
	if err := p.register(fs, &s, "database-url", "read-only"); err != nil {
		return err
	}
	login := fs.String("login", "", "with sql: a role that may then run the server and watch its tables")
	rest, err := p.parse(fs, args, 1)
	if err != nil {
		return err
	}
	if rest[0] == "sql" {
		script, err := migrate.SQL(*login)
		if err == nil {
			_, err = fmt.Fprint(p.stdout, script)
		}
		return err
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	if s.readOnly && rest[0] != "version" {
		return errReadOnly
	}
	switch rest[0] {
	case "up":
		if err := migrate.Up(ctx, s.databaseURL); err != nil {
			return explain(err, s.databaseURL)
		}
	case "down":
		if err := migrate.Down(ctx, s.databaseURL, func(note string) { fmt.Fprintln(p.stderr, "notifyql: "+note) }); err != nil {
			return explain(err, s.databaseURL)
		}
	case "version":
	default:
		fmt.Fprintf(p.stderr, "notifyql migrate: %q is none of up, down, version, sql\n", rest[0])
		return errUsage
	}
	v, err := migrate.Version(ctx, s.databaseURL)
	if err != nil {
		return explain(err, s.databaseURL)
	}
	if v == 0 {
		fmt.Fprintln(p.stdout, "nothing of notifyql is in the database")
		return nil
	}
	fmt.Fprintf(p.stdout, "the database is at version %d\n", v)
	return nil
}

func (p *program) watch(ctx context.Context, args []string) error {
	fs := p.flags("watch", "TABLE")
	tenant := fs.String("tenant", "tenant_id", "the column that says whose row it is")
	via := fs.String("tenant-via", "", "the foreign key, or its column, to the row that has that column, where the table has not")
	shared := fs.Bool("shared", false, "the table's rows belong to every tenant")
	exclude := fs.String("exclude", "", "columns that never leave the database, separated by commas")
	typeName := fs.String("type", "", "the GraphQL type's name (default: from the table's)")
	fieldName := fs.String("field", "", "the GraphQL field's name (default: from the table's)")
	ignoreRLS := fs.Bool("ignore-rls", false, "watch a table with row level security although subscriptions do not apply it")
	return p.onTable(ctx, fs, args, func(conn *pgx.Conn, table string) error {
		if *shared && (given(fs, "tenant") || *via != "") {
			return errors.New("--shared shows every tenant all rows, so that there is nothing for --tenant or --tenant-via to say; leave one of them out")
		}
		columns := []string{}
		for c := range strings.SplitSeq(*exclude, ",") {
			if c = strings.TrimSpace(c); c != "" {
				columns = append(columns, c)
			}
		}
		_, err := conn.Exec(ctx, `
			select notifyql.watch($1::text::regclass, tenant_column => $2, shared => $3, exclude => $4::text[]::name[],
				type_name => nullif($5, ''), field_name => nullif($6, ''), ignore_rls => $7, tenant_via => nullif($8, '')::name)`,
			table, *tenant, *shared, columns, *typeName, *fieldName, *ignoreRLS, *via)
		if err == nil {
			fmt.Fprintf(p.stdout, "%s is watched\n", table)
		}
		return err
	})
}

// given says whether a flag was.
func given(fs *flag.FlagSet, name string) (is bool) {
	fs.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

func (p *program) unwatch(ctx context.Context, args []string) error {
	return p.onTable(ctx, p.flags("unwatch", "TABLE"), args, func(conn *pgx.Conn, table string) error {
		_, err := conn.Exec(ctx, `select notifyql.unwatch($1::text::regclass)`, table)
		if err == nil {
			fmt.Fprintf(p.stdout, "%s is no longer watched\n", table)
		}
		return err
	})
}

func (p *program) onTable(ctx context.Context, fs *flag.FlagSet, args []string, do func(*pgx.Conn, string) error) error {
	var s settings
	if err := p.register(fs, &s, "database-url", "read-only"); err != nil {
		return err
	}
	rest, err := p.parse(fs, args, 1)
	if err != nil {
		return err
	}
	if s.readOnly {
		return errReadOnly
	}
	return withConn(ctx, s.databaseURL, func(conn *pgx.Conn) error { return do(conn, rest[0]) })
}

func (p *program) tables(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("tables", "")
	sql := fs.Bool("sql", false, "print SQL that declares the same again, settings and members of roles included")
	if err := p.databaseFlags(fs, &s); err != nil {
		return err
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	if *sql {
		return withConn(ctx, s.databaseURL, func(conn *pgx.Conn) error { return p.definitions(ctx, conn) })
	}
	err := withConn(ctx, s.databaseURL, func(conn *pgx.Conn) error {
		if err := p.list(ctx, conn, "", `select * from notifyql.watched order by 1`); err != nil {
			return err
		}
		return p.list(ctx, conn, "\nWho sees which rows and columns:\n", `select * from notifyql.restricted order by tbl::text, kind, column_name`)
	})
	if err != nil {
		return err
	}
	schema, err := notifyql.ReadSchema(ctx, notifyql.Config{DatabaseURL: s.databaseURL})
	for i, problem := range schema.Problems {
		if i == 0 {
			fmt.Fprintln(p.stdout, "\nIn the schema, not as it is in the database:")
		}
		fmt.Fprintln(p.stdout, "  "+problem)
	}
	return err
}

// list prints what a query finds as a table, and the title before it if there is something.
func (p *program) list(ctx context.Context, conn *pgx.Conn, title, query string) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	for n := 0; rows.Next(); n++ {
		vs, err := rows.Values()
		if err != nil {
			return err
		}
		if n == 0 {
			fmt.Fprint(w, title)
			for i, f := range rows.FieldDescriptions() {
				fmt.Fprint(w, map[bool]string{true: "\t"}[i > 0], f.Name)
			}
			fmt.Fprintln(w)
		}
		for i, v := range vs {
			if v == nil {
				v = ""
			}
			fmt.Fprint(w, map[bool]string{true: "\t"}[i > 0], v)
		}
		fmt.Fprintln(w)
	}
	return errors.Join(rows.Err(), w.Flush())
}

// explain says in one line why there is no connection; other errors have been put into words already.
func explain(err error, url string) error {
	var failed *pgconn.ConnectError
	var unusable *pgconn.ParseConfigError
	if errors.As(err, &failed) || errors.As(err, &unusable) {
		return pg.Explain(err, url)
	}
	return err
}

// watchersOf says, behind what Postgres does, who may watch tables.
func watchersOf(ctx context.Context, conn *pgx.Conn) string {
	var grant string
	err := conn.QueryRow(ctx, `
		select pg_catalog.format('grant %I to %I', pg_catalog.regexp_replace(pg_catalog.pg_get_userbyid(nspowner)::text, 'owner$', 'watch'), current_user)
		from pg_catalog.pg_namespace where nspname = 'notifyql'`).Scan(&grant)
	if err != nil {
		return ""
	}
	return "; let who migrated the database run: " + grant
}

// withConn runs do over a connection, and puts what Postgres says of a failure into one line.
func withConn(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	if url == "" {
		return errNoDatabase
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return explain(err, url)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	if err := do(conn); err != nil {
		var said *pgconn.PgError
		if !errors.As(err, &said) {
			return err
		}
		if said.Code == "3F000" || (said.Code == "42P01" || said.Code == "42883") && strings.Contains(said.Message, "notifyql") {
			return errors.New("notifyql is not in this database; run `notifyql migrate up`")
		}
		line := said.Message
		if said.Code == pgerrcode.ReadOnlySQLTransaction {
			line += "; use the primary if this is a standby, and else see to default_transaction_read_only"
		}
		if said.Code == pgerrcode.InsufficientPrivilege && strings.HasSuffix(line, "schema notifyql") {
			line += watchersOf(ctx, conn)
		}
		for _, more := range []string{said.Detail, said.Hint} {
			if more != "" {
				line += "; " + more
			}
		}
		return errors.New(line)
	}
	return nil
}
