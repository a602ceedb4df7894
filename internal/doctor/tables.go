package doctor

import (
	"context"
	"fmt"
	"strings"
)

// watched is a watch, as it is recorded and as the table is now.
type watched struct {
	id              int
	table           string // as SQL has it
	state           string
	tenant          string // the column; empty: shared
	via             string // the column of the foreign key; empty: none, or it is gone
	shared, ignore  bool
	exclude         []string
	typeName, field string

	relation     bool   // it is there, and the same
	renamed      string // what the tenant column is called now, here or where a way leads
	again        bool   // a column is called as the tenant column was
	tenantType   string // that is none for a tenant; empty: it is one
	constraint   bool   // a foreign key of the via column is there
	parent       string // where a way leads
	parentKey    string
	parentHidden bool // by row level security, from who looks tenants up
	secured      string
	hidden       string   // what the server may not read
	schema       string   // that the server may not use
	heirs        []string // tables that inherit from it
}

const selectWatched = `
	select d.id, case when c.oid is null then w.rel::text else pg_catalog.format('%I.%I', n.nspname, c.relname) end, d.state,
	       coalesce(d.tenant_column::text, ''), coalesce(d.tenant_via::text, ''), coalesce(d.shared, false), coalesce(d.ignore_rls, false),
	       coalesce(d.exclude::text[], '{}'), coalesce(d.type_name, ''), coalesce(d.field_name, ''),
	       c.oid is not null and w.rel = w.rel_oid,
	       coalesce(a.attname::text, ''),
	       exists (select from pg_catalog.pg_attribute o where o.attrelid = coalesce((w.via).rel, c.oid) and o.attname = w.tenant_column and not o.attisdropped),
	       coalesce(case when a.attnum is not null and (w.via).fk is null and not coalesce(w.shared, false) and notifyql.plain_type(a.atttypid) is null then pg_catalog.format_type(a.atttypid, a.atttypmod) end, ''),
	       exists (select from pg_catalog.pg_constraint k where k.oid = (w.via).fk),
	       coalesce((select pg_catalog.format('%I.%I', ps.nspname, p.relname) from pg_catalog.pg_class p join pg_catalog.pg_namespace ps on ps.oid = p.relnamespace where p.oid = (w.via).rel), ''),
	       coalesce((select k.attname::text from pg_catalog.pg_attribute k where k.attrelid = (w.via).rel and k.attnum = (w.via).key and not k.attisdropped), ''),
	       coalesce((select p.relrowsecurity and not notifyql.may_pass(p.oid) from pg_catalog.pg_class p where p.oid = (w.via).rel), false),
	       coalesce((select p.oid::regclass::text from pg_catalog.pg_class p where p.relrowsecurity and p.oid in (select c.oid union all select t.relid from pg_catalog.pg_partition_tree(c.oid) t) limit 1), ''),
	       coalesce((select pg_catalog.string_agg(pg_catalog.quote_ident(o.attname), ', ' order by o.attnum) from pg_catalog.pg_attribute o
	                  where o.attrelid = c.oid and o.attnum > 0 and not o.attisdropped and not o.attnum = any (w.exclude)
	                    and not pg_catalog.has_column_privilege($1, c.oid, o.attnum, 'select')), ''),
	       coalesce(case when not pg_catalog.has_schema_privilege($1, n.oid, 'usage') then n.nspname::text end, ''),
	       array(select i.inhrelid::regclass::text from pg_catalog.pg_inherits i join pg_catalog.pg_class k on k.oid = i.inhrelid where i.inhparent = c.oid and not k.relispartition order by 1)
	from notifyql.watched d
	join notifyql.watch w on w.id = d.id
	left join pg_catalog.pg_class c on c.oid = w.rel
	left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
	left join pg_catalog.pg_attribute a on a.attrelid = coalesce((w.via).rel, c.oid) and a.attnum = w.tenant_attnum and not a.attisdropped
	order by d.id`

func (v *visit) watches(ctx context.Context) (list []watched, err error) {
	var w watched
	err = v.each(ctx, selectWatched, []any{
		&w.id, &w.table, &w.state, &w.tenant, &w.via, &w.shared, &w.ignore, &w.exclude, &w.typeName, &w.field, &w.relation,
		&w.renamed, &w.again, &w.tenantType, &w.constraint, &w.parent, &w.parentKey, &w.parentHidden, &w.secured, &w.hidden, &w.schema, &w.heirs,
	}, func() error {
		list = append(list, w)
		w.exclude, w.heirs = nil, nil
		return nil
	}, v.role)
	return list, err
}

// watchAgain is what watches all tables as they are, if who looks can see how.
func (v *visit) watchAgain(ctx context.Context) (steps []Step, err error) {
	role := v.role
	v.role = v.login
	list, err := v.watches(ctx)
	v.role = role
	for _, w := range list {
		if w.relation {
			steps = append(steps, w.watch())
		}
	}
	return steps, err
}

// watch is the call that makes the watch anew.
func (w *watched) watch() Step {
	args := []string{literal(w.table)}
	add := func(name, value string) { args = append(args, name+" => "+value) }
	if w.shared {
		add("shared", "true")
	} else if w.tenant != "tenant_id" {
		add("tenant_column", literal(w.tenant))
	}
	if w.via != "" {
		add("tenant_via", literal(w.via))
	}
	if len(w.exclude) > 0 {
		quoted := make([]string, len(w.exclude))
		for i, c := range w.exclude {
			quoted[i] = literal(c)
		}
		add("exclude", "array["+strings.Join(quoted, ", ")+"]::name[]")
	}
	if w.typeName != "" {
		add("type_name", literal(w.typeName))
	}
	if w.field != "" {
		add("field_name", literal(w.field))
	}
	if w.ignore {
		add("ignore_rls", "true")
	}
	return sql("select notifyql.watch(%s)", strings.Join(args, ", "))
}

func (v *visit) tables(ctx context.Context) (string, error) {
	list, err := v.watches(ctx)
	if err != nil {
		return "", err
	}
	for i := range list {
		if err := v.table(ctx, &list[i]); err != nil {
			return "", err
		}
	}
	if len(list) == 0 {
		v.found(Warning, "nothing-watched", "", "no table is watched", "Subscribers have nothing to see but published events.", advice("select notifyql.watch('a_table')"))
	}
	return plural(len(list), "table") + " watched, with triggers that fire always and tenants that are found", nil
}

// table looks at one. What is wrong with its tenant and its triggers hides what else there may be.
func (v *visit) table(ctx context.Context, w *watched) error {
	const nobodys = "Its rows are nobody's: nothing of them reaches a subscriber."
	is := func(prefix string) bool { return strings.HasPrefix(w.state, prefix) }
	switch {
	case is("the table is gone"):
		v.found(Warning, "table-gone", w.table, "the table is gone, and its watch is left", "Subscriptions to it end, and clients get an error.",
			sql("select notifyql.unwatch(tbl) from notifyql.watched where id = %d", w.id))
		return nil
	case is("the database was restored"):
		v.found(Error, "table-restored", w.table, "the table was restored, and its triggers do nothing", "Nothing of it is captured.", w.watch())
		return nil
	case is("watching it was not finished"):
		v.found(Error, "table-unfinished", w.table, "watching it was not finished", "Nothing of it is captured.", w.watch())
		return nil
	case is("the way to its tenant"):
		if w.renamed != "" {
			w.tenant = w.renamed
		}
		fix := []Step{w.watch()}
		switch {
		case w.via == "" || w.parentKey == "" || w.renamed == "" && !w.again:
			fix = []Step{sql("select notifyql.unwatch(%s)", literal(w.table)), advice("or watch it with the tenant_via or tenant_column that it has now")}
		case !w.constraint:
			fix = []Step{sql("alter table %s add foreign key (%s) references %s (%s)", w.table, name(w.via), w.parent, name(w.parentKey)), w.watch()}
		}
		v.found(Error, "tenant-way", w.table, w.state, nobodys, fix...)
		return nil
	case is("the right to find its tenant"):
		fix := []Step{w.watch()}
		if w.parentHidden {
			fix = []Step{sql("create policy notifyql on %s for select to %s using (true)", w.parent, name(strings.TrimSuffix(v.role, "server")+"tenant")), w.watch()}
		}
		v.found(Error, "tenant-right", w.table, w.state, nobodys, fix...)
		return nil
	case is("its tenant column was renamed or dropped"):
		was := w.tenant
		switch {
		case w.renamed != "":
			w.tenant = w.renamed
			v.found(Error, "tenant-column", w.table, fmt.Sprintf("its tenant column %s is called %s now", was, w.renamed), nobodys, w.watch())
		case w.again:
			v.found(Error, "tenant-column", w.table, "its tenant column "+was+" was dropped, and made anew", nobodys, w.watch())
		default:
			v.found(Error, "tenant-column", w.table, "its tenant column "+was+" is gone", nobodys,
				sql("select notifyql.unwatch(%s)", literal(w.table)), advice("or watch it with the tenant_column, or tenant_via, that it has now"))
		}
		return nil
	}
	if w.tenantType != "" {
		v.found(Error, "tenant-type", w.table, fmt.Sprintf("its tenant column %s is of type %s now, which none of a tenant is", w.tenant, w.tenantType),
			"What its text is can depend on who writes, or run users' code.", sql("alter table %s alter column %s type text using %[2]s::text", w.table, name(w.tenant)), w.watch())
		return nil
	}
	disabled, err := v.triggers(ctx, w)
	if err != nil {
		return err
	}
	if !disabled && w.state != "watched" {
		v.found(Error, "triggers", w.table, "its triggers are not those that watch makes: they were dropped or changed, or there are new partitions or types",
			"Changes of it are missing, or are converted wrongly.", w.watch())
	}
	for _, heir := range w.heirs {
		v.found(Error, "inherited", heir, "it inherits from "+w.table, "Its rows are read with those of the watched table, and no trigger sees them change.",
			sql("alter table %s no inherit %s", heir, w.table))
	}
	v.readable(w)
	return nil
}

// triggers looks at each of the triggers, of partitions too: they must fire always, also for the writes of replication's workers.
func (v *visit) triggers(ctx context.Context, w *watched) (found bool, err error) {
	var fix []Step
	var what []string
	var table, trigger, enabled string
	err = v.each(ctx, `
		select pg_catalog.format('%I.%I', n.nspname, c.relname), g.tgname::text, g.tgenabled::text
		from pg_catalog.pg_trigger g
		join pg_catalog.pg_class c on c.oid = g.tgrelid
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join notifyql.watch w on w.id = $1
		where g.tgenabled <> 'A'
		  and (g.tgrelid in (select w.rel union select t.relid from pg_catalog.pg_partition_tree(w.rel) t) and g.tgname in (' notifyql', ' notifyql root', ' notifyql truncate')
		       or g.tgrelid = (w.via).rel and g.tgname = ' notifyql ' || w.id)
		order by c.relkind desc, 1, 2`,
		[]any{&table, &trigger, &enabled}, func() error {
			state := map[string]string{"D": "disabled", "O": "enabled, but not always", "R": "enabled for replicas only"}[enabled]
			what = append(what, fmt.Sprintf("on %s is %s", table, state))
			fix = append(fix, sql("alter table only %s enable always trigger %s", table, name(trigger)))
			return nil
		}, w.id)
	if err != nil || len(fix) == 0 {
		return false, err
	}
	v.found(Error, "trigger-disabled", w.table, "our trigger "+strings.Join(what, ", and "), "What is written meanwhile is not captured, and subscribers keep what is no more.", fix...)
	return true, nil
}

// readable looks whether the server can read the rows as they stand.
func (v *visit) readable(w *watched) {
	const why = "Subscriptions that begin with the rows that stand end with an error; changes arrive."
	if w.schema != "" {
		v.found(Error, "rows-schema", w.table, "the server may not use the schema "+w.schema, why, sql("grant usage on schema %s to %s", name(w.schema), name(v.role)))
	}
	if w.hidden != "" {
		v.found(Error, "rows-right", w.table, "the server may not read "+w.hidden, why, sql("grant select (%s) on %s to %s", w.hidden, w.table, name(v.role)))
	}
	if w.secured == "" {
		return
	}
	if !w.ignore {
		w.ignore = true
		v.found(Error, "row-security", w.table, "row level security is on for "+w.secured+", and was not when it was watched",
			"Subscribers do not pass its policies: they see all rows of their tenant.", w.watch(), advice("or declare policies of notifyql's, or unwatch it"))
	}
}

// bypass looks whether the login passes row level security.
func (v *visit) bypass(ctx context.Context) error {
	var table string
	return v.each(ctx, `
		select c.oid::regclass::text
		from notifyql.watch w cross join lateral (select w.rel::oid as oid union select t.relid from pg_catalog.pg_partition_tree(w.rel) t) t join pg_catalog.pg_class c on c.oid = t.oid
		where pg_catalog.row_security_active(c.oid) limit 1`,
		[]any{&table}, func() error {
			v.found(Error, "row-security-login", v.login, "row level security of "+table+" hides rows from the server's login",
				"Subscriptions that begin with the rows that stand end with an error; changes arrive.", sql("alter role %s bypassrls", name(v.login)))
			return nil
		})
}

func (v *visit) policies(ctx context.Context) (string, error) {
	if err := v.bypass(ctx); err != nil {
		return "", err
	}
	n := 0
	var table, column, kind, state string
	err := v.each(ctx, `select r.tbl::text, coalesce(r.column_name::text, ''), r.kind, r.state from notifyql.restricted r order by 1, 2, 3`,
		[]any{&table, &column, &kind, &state}, func() error {
			n++
			if state == "in force" || state == "the table is not watched" {
				return nil
			}
			v.found(Warning, "policy", table, "its policy is not in force as declared: "+state, "Who should see rows does not.",
				advice("declare it again with notifyql.restrict, restrict_column or restrict_to_members, or drop it with unrestrict: `notifyql tables` lists them"))
			return nil
		})
	return fmt.Sprintf("policies in force: %d", n), err
}
