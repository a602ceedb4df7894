package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// euros writes cents as numeric wants them.
func euros(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

func (o *order) amount() (cents int) {
	for _, i := range o.items {
		cents += i.quantity * i.cents
	}
	return cents
}

// welcome is a new customer.
func (b *business) welcome(ctx context.Context, tx pgx.Tx, st *store) error {
	first := []string{"Kofi", "Lucía", "Mateusz", "Nour", "Olga", "Pedro", "Quentin", "Rania"}[b.rand.IntN(8)]
	last := []string{"Andersson", "Baptiste", "Çelik", "Doyle", "Eriksen", "Ferrari", "Groß", "Hughes"}[b.rand.IntN(8)]
	city := []string{"Gent", "København", "Lyon", "Łódź", "München", "Sevilla", "Tartu", "Valletta"}[b.rand.IntN(8)]
	email := strings.ToLower(fmt.Sprintf("%.1s%d@example.com", first, b.rand.IntN(100000)))
	var id int64
	err := tx.QueryRow(ctx, "insert into customers (tenant_id, name, email, city) values ($1, $2, $3, $4) returning id",
		st.tenant, first+" "+last, email, city).Scan(&id)
	if err == nil {
		st.customers = append(st.customers, id)
	}
	return err
}

// place is a new order of one to three products, which leave the stock; what runs low comes in again.
func (b *business) place(ctx context.Context, tx pgx.Tx, st *store) error {
	o := &order{number: fmt.Sprintf("%.1s-%d", strings.ToUpper(st.tenant), st.last+1), status: "placed"}
	for n, p := range b.rand.Perm(len(st.products))[:1+b.rand.IntN(3)] {
		o.items = append(o.items, item{position: n + 1, quantity: 1 + b.rand.IntN(3), product: st.products[p]})
	}
	customer := st.customers[b.rand.IntN(len(st.customers))]
	err := tx.QueryRow(ctx, "insert into orders (tenant_id, customer_id, number, amount) values ($1, $2, $3, $4) returning id",
		st.tenant, customer, o.number, euros(o.amount())).Scan(&o.id)
	if err != nil {
		return err
	}
	for _, i := range o.items {
		_, err := tx.Exec(ctx, `insert into order_items (order_id, position, tenant_id, product_id, quantity, price)
			values ($1, $2, $3, $4, $5, $6)`, o.id, i.position, st.tenant, i.id, i.quantity, euros(i.cents))
		if err != nil {
			return err
		}
		const low, refill = 5, 40
		_, err = tx.Exec(ctx, `update products set stock = stock - $2 + case when stock - $2 < $3 then $4 else 0 end where id = $1`,
			i.id, i.quantity, low, refill)
		if err != nil {
			return err
		}
	}
	st.last++
	st.open = append(st.open, o)
	return nil
}

// reconsider takes the last item out of an order that is not paid yet.
func reconsider(ctx context.Context, tx pgx.Tx, o *order) error {
	gone := o.items[len(o.items)-1]
	o.items = o.items[:len(o.items)-1]
	if _, err := tx.Exec(ctx, "delete from order_items where order_id = $1 and position = $2", o.id, gone.position); err != nil {
		return err
	}
	if err := restock(ctx, tx, gone); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "update orders set amount = $2, updated_at = now() where id = $1", o.id, euros(o.amount()))
	return err
}

// cancel gives the goods back to the stock.
func cancel(ctx context.Context, tx pgx.Tx, st *store, o *order) error {
	for _, i := range o.items {
		if err := restock(ctx, tx, i); err != nil {
			return err
		}
	}
	o.status = "cancelled"
	st.forget(o)
	_, err := tx.Exec(ctx, "update orders set status = $2, updated_at = now() where id = $1", o.id, o.status)
	return err
}

// proceed takes an order one stage further: paid, shipped, delivered.
func (b *business) proceed(ctx context.Context, tx pgx.Tx, st *store, o *order) error {
	o.status = map[string]string{"placed": "paid", "paid": "shipped", "shipped": "delivered"}[o.status]
	var shipping any
	if o.status == "shipped" {
		carrier := []string{"Cargo Bikes", "Night Mail", "Northern Post"}[b.rand.IntN(3)]
		shipping = map[string]any{"carrier": carrier, "tracking": fmt.Sprintf("NQ%08d", b.rand.IntN(100_000_000))}
	}
	if o.status == "delivered" {
		st.forget(o)
	}
	_, err := tx.Exec(ctx, `update orders set status = $2, shipping = coalesce($3, shipping), updated_at = now() where id = $1`,
		o.id, o.status, shipping)
	return err
}

// forget is for an order that has come to its end.
func (st *store) forget(o *order) {
	st.open = slices.DeleteFunc(st.open, func(other *order) bool { return other == o })
}

func restock(ctx context.Context, tx pgx.Tx, i item) error {
	_, err := tx.Exec(ctx, "update products set stock = stock + $2 where id = $1", i.id, i.quantity)
	return err
}
