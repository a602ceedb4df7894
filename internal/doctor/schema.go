package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// ownerName is what the schema's owner is called by the migrations.
var ownerName = regexp.MustCompile(`^(notifyql_[0-9_]+_)owner$`)

// schema looks whether the migrations are there, of a version that this program may run on, and owned as they were made.
func (v *visit) schema(ctx context.Context) (string, error) {
	const selectOwner = `select coalesce((select pg_catalog.pg_get_userbyid(nspowner)::text from pg_catalog.pg_namespace where nspname = 'notifyql'), '')`
	if err := v.conn.QueryRow(ctx, selectOwner).Scan(&v.owner); err != nil {
		v.unfit = true
		return "", err
	}
	err := migrate.Check(ctx, v.conn)
	if errors.Is(err, migrate.ErrMissing) {
		v.unfit = true
		v.found(Error, "schema-missing", "", "notifyql is not in this database", "Nothing is captured.", shell("notifyql migrate up"))
		return "", nil
	}
	m := ownerName.FindStringSubmatch(v.owner)
	if m == nil {
		v.unfit = true
		fix := []Step{sql("drop schema notifyql cascade"), shell("notifyql migrate up")}
		again, err := v.watchAgain(ctx)
		if err != nil {
			again = nil
			fix = append(fix, advice("then watch the tables again, and declare their policies"))
		}
		v.found(Error, "owner", "", fmt.Sprintf("the schema notifyql belongs to %q: it was restored without the roles that own it", v.owner),
			"A row's conversion can run users' code, which would have that role's rights; so no table can be watched.", append(fix, again...)...)
		return "", nil
	}
	v.role = m[1] + "server"
	switch {
	case errors.Is(err, migrate.ErrBehind):
		v.unfit = true
		v.found(Error, "schema-behind", "", err.Error(), "The server waits until the database is migrated.", shell("notifyql migrate up"))
	case errors.Is(err, migrate.ErrTooOld):
		v.unfit = true
		v.found(Error, "schema-ahead", "", err.Error(), "It would not understand what it reads.", advice("run the version of notifyql that migrated the database, or a later one"))
	case errors.Is(err, migrate.ErrPrivilege):
		var member bool
		if err := v.conn.QueryRow(ctx, `select pg_catalog.pg_has_role(current_user, $1, 'usage')`, v.role).Scan(&member); err != nil {
			return "", err
		}
		if !member {
			v.unfit = true
			v.found(Error, "login", v.login, "the login may not run the server", "It can't read the log, nor the channel's name.", sql("grant %s to %s", name(v.role), name(v.login)))
		}
	case err != nil:
		return "", err
	}
	var have int
	if err := v.conn.QueryRow(ctx, `select max(version) from notifyql.migrations`).Scan(&have); err != nil && !v.unfit {
		return "", nil // privileges says which right is missing
	}
	return fmt.Sprintf("the schema notifyql has version %d, and belongs to %s", have, v.owner), nil
}

// roles looks whether the roles that own what is ours can do no more than they were made for.
func (v *visit) roles(ctx context.Context) (string, error) {
	prefix := strings.TrimSuffix(v.role, "server")
	var role, kind, member string
	err := v.each(ctx, `
		select r.rolname::text, '' from pg_catalog.pg_roles r
		where r.rolname in ($1 || 'owner', $1 || 'watch', $1 || 'image', $1 || 'tenant', $1 || 'server')
		  and (r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls) order by 1`,
		[]any{&role, &kind}, func() error {
			v.found(Error, "role-attributes", role, "the role can log in, or has attributes that it was made without",
				"What runs as it, such as a cast of somebody's, could do what the attributes allow.",
				sql("alter role %s nologin nosuperuser nocreaterole nocreatedb noreplication nobypassrls", name(role)))
			return nil
		}, prefix)
	if err != nil {
		return "", err
	}
	// Who has created a role may let himself in (since 16), which is not being in.
	err = v.each(ctx, `
		select r.rolname::text, pg_catalog.pg_get_userbyid(m.member)::text
		from pg_catalog.pg_auth_members m join pg_catalog.pg_roles r on r.oid = m.roleid
		where r.rolname in ($1 || 'owner', $1 || 'image', $1 || 'tenant')
		  and (coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, true) or coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true))
		order by 1, 2`,
		[]any{&role, &member}, func() error {
			v.found(Error, "role-members", member, "it is a member of "+role, "Nobody is meant to be: who is can read every tenant's changes, or forge them.",
				sql("revoke %s from %s", name(role), name(member)))
			return nil
		}, prefix)
	if err != nil {
		return "", err
	}
	var function string
	err = v.each(ctx, `
		select p.oid::pg_catalog.regprocedure::text, p.proname::text, pg_catalog.pg_get_userbyid(p.proowner)::text
		from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where n.nspname = 'notifyql' and p.prosecdef
		  and pg_catalog.pg_get_userbyid(p.proowner) <> $1 || case when p.proname in ('image', 'image_pair', 'image_without', 'convert') then 'image'
		      when p.proname in ('make_tenant_of') or p.proname ~ '^tenant_of_[0-9]+$' then 'tenant' else 'owner' end
		order by 1`,
		[]any{&function, &kind, &member}, func() error {
			to := prefix + "owner"
			switch {
			case strings.HasPrefix(kind, "image"), kind == "convert":
				to = prefix + "image"
			case strings.Contains(kind, "tenant_of"):
				to = prefix + "tenant"
			}
			v.found(Error, "function-owner", function, "it runs with the rights of "+member, "It was made to run as "+to+", which has none but those it needs.",
				sql("alter function %s owner to %s", function, name(to)))
			return nil
		}, prefix)
	return "the roles have what they were made with, and nobody is a member who should not be", err
}

// needed is what the server's login must be allowed to, of what is in the schema.
const needed = `
	with want (kind, object, args) as (values
	  ('table', 'change', ''), ('sequence', 'change_seq', ''), ('table', 'mode', ''), ('table', 'setting', ''), ('table', 'secret', ''), ('table', 'torn', ''),
	  ('table', 'retention', ''), ('table', 'ring', ''), ('table', 'tick', ''), ('table', 'watch', ''), ('table', 'watched', ''), ('table', 'policy', ''),
	  ('table', 'restricted', ''), ('table', 'migrations', ''),
	  ('function', 'announce_mode', 'boolean'), ('function', 'publish', 'text, jsonb, text, boolean, text'), ('function', 'tick', 'bigint'), ('function', 'era', ''),
	  ('function', 'enter', ''), ('function', 'turn', 'interval'), ('function', 'convert', 'anyelement'), ('function', 'plain_type', 'oid'),
	  ('function', 'path', 'regclass, notifyql.way, smallint'))
	select w.kind, w.object, w.args
	from want w
	left join pg_catalog.pg_class c on c.relnamespace = 'notifyql'::regnamespace and c.relname = w.object and w.kind <> 'function'
	left join pg_catalog.pg_proc p on p.pronamespace = 'notifyql'::regnamespace and p.proname = w.object and w.kind = 'function'
	where w.kind = 'table' and c.oid is not null and not pg_catalog.has_table_privilege(c.oid, 'select')
	   or w.kind = 'sequence' and c.oid is not null and not pg_catalog.has_sequence_privilege(c.oid, 'select')
	   or w.kind = 'function' and p.oid is not null and not pg_catalog.has_function_privilege(p.oid, 'execute')`

func (v *visit) privileges(ctx context.Context) (string, error) {
	var usage bool
	if err := v.conn.QueryRow(ctx, `select pg_catalog.has_schema_privilege('notifyql', 'usage')`).Scan(&usage); err != nil {
		return "", err
	}
	if !usage {
		v.unfit = true
		v.found(Error, "privileges", v.role, "the server may not use the schema notifyql", "It reads the log there.", sql("grant usage on schema notifyql to %s", name(v.role)))
		return "", nil
	}
	var kind, object, args string
	var fix []Step
	var what []string
	err := v.each(ctx, needed, []any{&kind, &object, &args}, func() error {
		what = append(what, object)
		switch kind {
		case "function":
			fix = append(fix, sql("grant execute on function notifyql.%s(%s) to %s", object, args, name(v.role)))
		case "sequence":
			fix = append(fix, sql("grant select on sequence notifyql.%s to %s", object, name(v.role)))
		default:
			fix = append(fix, sql("grant select on notifyql.%s to %s", object, name(v.role)))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if len(what) > 0 {
		v.unfit = v.unfit || strings.Contains(strings.Join(what, " "), "watch")
		v.found(Error, "privileges", v.role, "the server's rights are not those that it was given; missing are those to "+strings.Join(what, ", "),
			"It can't do its work without.", fix...)
	}
	var relation, reader string
	err = v.each(ctx, `
		select c.oid::pg_catalog.regclass::text, case when p.grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.grantee)::text) end
		from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) p
		where c.relnamespace = 'notifyql'::regnamespace and (c.relname = 'secret' or c.relname ~ '^change') and p.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
		  and p.grantee not in (select r.oid from pg_catalog.pg_roles r where r.rolname in ($1, $2))
		group by 1, 2 order by 1, 2`,
		[]any{&relation, &reader}, func() error {
			severity, why := Warning, "Who can read or write the log has every tenant's changes in hand."
			if reader == "public" {
				severity = Error
			}
			if relation == "notifyql.secret" {
				severity, why = Error, "Who knows the channel's name hears every tenant's changes and can forge them, for LISTEN and NOTIFY need no right."
			}
			v.found(severity, "exposed", relation, reader+" has a right to it", why, sql("revoke all on %s from %s", relation, reader))
			return nil
		}, v.role, v.owner)
	return "the login has the rights that the server needs, and nobody has them who should not", err
}

func (v *visit) secret(ctx context.Context) (string, error) {
	var n int
	if err := v.conn.QueryRow(ctx, `select count(*) from notifyql.secret`).Scan(&n); err != nil {
		return "", err
	}
	if n == 0 {
		v.found(Error, "secret-missing", "", "the notifications' channel has no name, as after a restore without it", "Nothing is announced, and no server can listen.",
			sql("insert into notifyql.secret default values"))
	}
	return "the notifications' channel has its name", nil
}
