package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/demo"
)

// demoQuery is what the demo prints to paste, and follows itself.
const demoQuery = `subscription {
  ordersChanged { kind cause new { number status amount } old { status } changedFields }
}`

// demo runs everything at once. It keeps nothing: ending it removes the database.
func (p *program) demo(ctx context.Context, args []string) (err error) {
	s := settings{}
	fs := p.flags("demo", "")
	if err := p.register(fs, &s, "addr", "log-level", "log-format"); err != nil {
		return err
	}
	pace := fs.Duration("pace", time.Second, "the mean time between two transactions of the shop")
	seed := fs.Uint64("seed", 1, "what the shop's business follows from")
	if p.getenv("NOTIFYQL_ADDR") == "" {
		s.addr = "localhost:8000"
	}
	if p.getenv("NOTIFYQL_LOG_LEVEL") == "" {
		s.logLevel = "error"
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	log, err := p.logger(&s)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return cannotServe(s.addr, "--addr", err)
	}
	defer ln.Close() //nolint:errcheck // the server has closed it
	fmt.Fprintln(p.stdout, "starting a private Postgres …")
	shop, err := demo.Start(ctx)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, shop.Stop())
		fmt.Fprintln(p.stdout, "\nstopped; nothing is left behind")
	}()
	srv, err := notifyql.New(notifyql.Config{
		DatabaseURL: shop.URL(), Auth: notifyql.Trust(), Logger: log,
		GraphiQL: notifyql.GraphiQL{Query: demoQuery, Payload: `{"tenantId": ` + strconv.Quote(demo.Tenants[0]) + `}`},
	})
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	failed := make(chan error, 3)
	start := func(part func() error) { parts.Go(func() { failed <- part(); stop() }) }
	start(func() error { return serveOn(ctx, srv, &face{listener: ln, handler: routes(srv, true)}) })
	select {
	case <-srv.Ready():
		p.introduce(ln.Addr().String(), shop.Version())
		start(func() error { return demo.Write(ctx, shop.URL(), demo.Options{Seed: *seed, Pace: *pace}) })
		start(func() error { return p.show(ctx, srv) })
	case <-ctx.Done():
	}
	<-ctx.Done()
	parts.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

func (p *program) introduce(addr, version string) {
	fmt.Fprintf(p.stdout, `
A shop with two tenants, %s and %s, is at work on Postgres %s.

  open       http://%s/graphql
  paste      %s
  payload    {"tenantId": "%s"}   says whose orders to see

Its health, figures and problems: /health /metrics /errors. Ctrl-C ends it.

What %s's subscribers see:

`, demo.Tenants[0], demo.Tenants[1], version, addr, indent(demoQuery), demo.Tenants[0], demo.Tenants[0])
}

func indent(s string) string {
	out := ""
	for _, r := range s {
		out += string(r)
		if r == '\n' {
			out += "             "
		}
	}
	return out
}

// show prints the events of the first tenant, a line each.
func (p *program) show(ctx context.Context, srv *notifyql.Server) error {
	r := notifyql.Request{Query: demoQuery, Identity: notifyql.Identity{Tenants: demo.Tenants[:1]}}
	return follow(ctx, srv, r, func(result []byte) error {
		var r struct {
			Data struct{ OrdersChanged json.RawMessage }
		}
		if err := json.Unmarshal(result, &r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.stdout, "  %s\n", r.Data.OrdersChanged)
		return err
	})
}
