package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say how to write. The zero value writes about one transaction a second until the context is done.
type Options struct {
	Seed  uint64
	Pace  time.Duration // the mean pause between two transactions; 0 is a second
	Steps int           // how many transactions; 0 is no end
}

// Write plays the shop's business in the database at url. It returns nil when ctx is done or all steps are.
func Write(ctx context.Context, url string, opts Options) error {
	if opts.Pace <= 0 {
		opts.Pace = time.Second
	}
	err := write(ctx, url, opts)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func write(ctx context.Context, url string, opts Options) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("the demo's shop: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	b, err := open(ctx, conn, opts.Seed)
	if err != nil {
		return fmt.Errorf("opening the demo's shop: %w", err)
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for step := 0; opts.Steps == 0 || step < opts.Steps; step++ {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if err := b.step(ctx); err != nil {
			return err
		}
		pause.Reset(time.Duration(float64(opts.Pace) * (0.4 + 1.2*b.rand.Float64())))
	}
	return nil
}

// business is what the shop has to know to go on.
type business struct {
	conn   *pgx.Conn
	rand   *rand.Rand
	stores []*store // one for each tenant
}

// store is one tenant's part.
type store struct {
	tenant    string
	customers []int64
	products  []product
	last      int      // number of the last order
	open      []*order // neither delivered nor cancelled, in the order they were placed
}

type product struct {
	id    int64
	cents int
}

type order struct {
	id     int64
	number string
	status string
	items  []item
}

type item struct {
	position, quantity int
	product
}

// most is how many open orders a store has at most: the oldest are seen to first.
const most = 12

func open(ctx context.Context, conn *pgx.Conn, seed uint64) (*business, error) {
	b := &business{conn: conn, rand: rand.New(rand.NewPCG(seed, seed))}
	for _, tenant := range Tenants {
		st := &store{tenant: tenant}
		rows, _ := conn.Query(ctx, "select id from customers where tenant_id = $1 order by id", tenant)
		var err error
		if st.customers, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return nil, err
		}
		rows, _ = conn.Query(ctx, "select id, (price * 100)::integer from products where tenant_id = $1 order by id", tenant)
		if st.products, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p product, err error) {
			return p, row.Scan(&p.id, &p.cents)
		}); err != nil {
			return nil, err
		}
		err = conn.QueryRow(ctx, "select coalesce(max(substring(number from '\\d+$')::integer), 1000) from orders where tenant_id = $1", tenant).Scan(&st.last)
		if err != nil {
			return nil, err
		}
		if len(st.customers) == 0 || len(st.products) == 0 {
			return nil, fmt.Errorf("tenant %s has no customers or no products", tenant)
		}
		b.stores = append(b.stores, st)
	}
	return b, nil
}

// step is one transaction of one tenant: the next thing that happens to an order, most often to a new one.
func (b *business) step(ctx context.Context) error {
	st := b.stores[b.rand.IntN(len(b.stores))]
	do := b.choose(st)
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit there is nothing to do
	if err := do(ctx, tx); err != nil {
		return fmt.Errorf("the demo's shop: %w", err)
	}
	return tx.Commit(ctx)
}

// choose picks what happens next at a store.
func (b *business) choose(st *store) func(context.Context, pgx.Tx) error {
	dice := b.rand.IntN(100)
	if len(st.open) < 3 || dice < 30 && len(st.open) < most {
		if dice < 3 {
			return func(ctx context.Context, tx pgx.Tx) error { return b.welcome(ctx, tx, st) }
		}
		return func(ctx context.Context, tx pgx.Tx) error { return b.place(ctx, tx, st) }
	}
	o := st.open[b.rand.IntN((len(st.open)+1)/2)] // one of the older half
	switch {
	case o.status == "placed" && dice < 45 && len(o.items) > 1:
		return func(ctx context.Context, tx pgx.Tx) error { return reconsider(ctx, tx, o) }
	case o.status != "shipped" && dice < 55:
		return func(ctx context.Context, tx pgx.Tx) error { return cancel(ctx, tx, st, o) }
	default:
		return func(ctx context.Context, tx pgx.Tx) error { return b.proceed(ctx, tx, st, o) }
	}
}
