package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/notifyql/notifyql"
)

// A server beside the other routes of a program.
func Example() {
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())
	r := chi.NewRouter()
	r.Mount("/graphql", srv.Handler())
	log.Fatal(http.ListenAndServe(":8000", r))
}

// running starts a server that needs no database, and gives how to end it.
func running(c notifyql.Config) (srv *notifyql.Server, end func()) {
	c.Bus = notifyql.MemoryBus()
	srv, err := notifyql.New(c)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	return srv, func() {
		stop()
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
}

// Events in process: no socket, and here no database either.
func ExampleServer_Subscribe() {
	srv, end := running(notifyql.Config{})
	defer end()
	ctx := context.Background()

	stream, err := srv.Subscribe(ctx, notifyql.Request{
		Query:     `subscription($name: String!) { channel(name: $name) { type data } }`,
		Variables: map[string]any{"name": "doors"},
		Identity:  notifyql.Identity{Tenants: []string{"acme"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()

	for _, e := range []notifyql.Event{
		{Channel: "doors", Tenant: "zeta", Type: "opened", Data: 1}, // another tenant's
		{Channel: "doors", Tenant: "acme", Type: "opened", Data: map[string]any{"door": "north"}},
		{Channel: "doors", Shared: true, Type: "closed", Data: "all"},
	} {
		if err := srv.Publish(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		payload, err := stream.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", payload)
	}
	// Output:
	// {"data":{"channel":{"type":"opened","data":{"door":"north"}}}}
	// {"data":{"channel":{"type":"closed","data":"all"}}}
}

// What ends a stream.
func ExampleStream_Next() {
	srv, end := running(notifyql.Config{})
	ctx := context.Background()
	stream, err := srv.Subscribe(ctx, notifyql.Request{Query: `subscription { channel(name: "doors") { data } }`})
	if err != nil {
		log.Fatal(err)
	}
	end()
	for {
		payload, err := stream.Next(ctx)
		var refused *notifyql.RequestError
		switch {
		case errors.Is(err, io.EOF):
			fmt.Println("the operation is complete, or the server has ended")
			return
		case errors.As(err, &refused):
			fmt.Printf("the server ended the subscription: %s\n", refused.Errors)
			return
		case err != nil:
			fmt.Println("the context has ended, which does the stream no harm")
			return
		}
		fmt.Printf("%s\n", payload)
	}
	// Output: the operation is complete, or the server has ended
}

// An operation that does not fit the schema is refused with GraphQL's errors.
func ExampleRequestError() {
	srv, end := running(notifyql.Config{})
	defer end()
	_, err := srv.Subscribe(context.Background(), notifyql.Request{Query: `subscription { nothing }`})
	var refused *notifyql.RequestError
	if errors.As(err, &refused) {
		var list []struct{ Message string }
		if err := json.Unmarshal(refused.Errors, &list); err != nil {
			log.Fatal(err)
		}
		fmt.Println(list[0].Message)
	}
	// Output: Cannot query field "nothing" on type "Subscription".
}

// A field of one's own: typed, with arguments, and a resolver in Go.
func ExampleField() {
	price := notifyql.Field{
		SDL: `
			extend type Subscription { priceChanged(symbol: String!): Price! }
			type Price { symbol: String! euros: Float! }`,
		Channel: "prices",
		Resolve: func(_ context.Context, e *notifyql.FieldEvent) (any, error) {
			var p struct {
				Symbol string `json:"symbol"`
				Cents  int    `json:"cents"`
			}
			if err := json.Unmarshal(e.Data, &p); err != nil {
				return nil, err
			}
			if p.Symbol != e.Args["symbol"] {
				return nil, notifyql.ErrSkip
			}
			return map[string]any{"symbol": p.Symbol, "euros": float64(p.Cents) / 100}, nil
		},
		SameForAll: true,
	}
	srv, end := running(notifyql.Config{Fields: []notifyql.Field{price}})
	defer end()
	ctx := context.Background()
	stream, err := srv.Subscribe(ctx, notifyql.Request{Query: `subscription { priceChanged(symbol: "ABC") { euros } }`})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for _, symbol := range []string{"XYZ", "ABC"} {
		err := srv.Publish(ctx, notifyql.Event{Channel: "prices", Shared: true, Data: map[string]any{"symbol": symbol, "cents": 1250}})
		if err != nil {
			log.Fatal(err)
		}
	}
	payload, err := stream.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", payload)
	// Output: {"data":{"priceChanged":{"euros":12.5}}}
}

// Who a client is, by a cookie of the program's own.
func ExampleAuth() {
	var auth notifyql.Auth = func(_ context.Context, _ json.RawMessage, r *http.Request) (notifyql.Identity, error) {
		cookie, err := r.Cookie("session")
		if err != nil || cookie.Value != "of ann" {
			return notifyql.Identity{}, errors.New("nobody is logged in")
		}
		return notifyql.Identity{UserID: "ann", Tenants: []string{"acme"}}, nil
	}
	srv, end := running(notifyql.Config{Auth: auth})
	defer end()
	<-srv.Ready()
	ask := func(session string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/graphql?query={__typename}", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: session})
		srv.Handler().ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	ask("of ann")
	ask("of nobody")
	// Output:
	// 200
	// 401
}

// Tokens that are signed with a secret.
func ExampleJWT() {
	_, err := notifyql.JWT(notifyql.JWTOptions{Secret: []byte("too short")})
	fmt.Println(err)

	auth, err := notifyql.JWT(notifyql.JWTOptions{
		Secret: []byte("at least thirty-two bytes of secret"), Issuer: "https://login.example.com", Audience: []string{"live"},
	})
	fmt.Println(auth != nil, err)
	// Output:
	// notifyql: JWT: the secret is shorter than 32 bytes
	// true <nil>
}

// Hooks: who comes, what he subscribes to, and what of that he sees.
func ExampleConfig_hooks() {
	srv, end := running(notifyql.Config{
		Auth: notifyql.Trust(),
		OnConnect: func(_ context.Context, c *notifyql.Connection) error {
			if c.Identity.UserID == "" {
				return errors.New("who is nobody may not connect")
			}
			return nil
		},
		OnSubscribe: func(_ context.Context, sub *notifyql.Subscription) (where map[string]any, err error) {
			switch {
			case sub.Identity.HasRole([]string{"manager"}):
				return nil, nil // all that the tenant has
			case sub.Table == "public.orders":
				return map[string]any{"status": map[string]any{"ne": "draft"}}, nil
			}
			return nil, fmt.Errorf("%s is for managers", sub.Field)
		},
		OnDisconnect: func(c *notifyql.Connection) { log.Print(c.Identity.UserID, " has gone") },
		Logger:       slog.New(slog.DiscardHandler),
	})
	defer end()
	for _, role := range []string{"manager", "clerk"} {
		stream, err := srv.Subscribe(context.Background(), notifyql.Request{
			Query: `subscription { channel(name: "doors") { data } }`, Identity: notifyql.Identity{Roles: []string{role}},
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("the", role, "is subscribed")
		stream.Close()
	}
	// Output:
	// the manager is subscribed
	// notifyql: the subscription is not allowed
}

// A program's own pool, registry of metrics and logger.
func ExampleConfig_pool() {
	pool, err := pgxpool.New(context.Background(), "postgres://localhost/app?pool_max_conns=20")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close() // after Run has returned
	_, err = notifyql.New(notifyql.Config{Pool: pool, Registerer: prometheus.NewRegistry(), Auth: notifyql.Trust()})
	fmt.Println(err)
	// Output: <nil>
}

// An event that is sent if, and only if, the program's transaction commits.
func ExamplePublishTx() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `update doors set open = true where name = 'north'`); err != nil {
		log.Fatal(err)
	}
	if err := notifyql.PublishTx(ctx, tx, notifyql.Event{Channel: "doors", Tenant: "acme", Data: "north"}); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		log.Fatal(err)
	}
}

// Subscriptions under a path of net/http, health beside them, and what operators see at an address of its own.
func ExampleServer_Handler() {
	srv, end := running(notifyql.Config{Auth: notifyql.Trust()})
	defer end()
	<-srv.Ready()

	mux := http.NewServeMux()
	mux.Handle("/live", http.StripPrefix("/live", srv.Handler()))
	mux.Handle("/health", srv.HealthHandler())
	public := httptest.NewServer(mux)
	defer public.Close()
	operators := httptest.NewServer(srv.OpsHandler())
	defer operators.Close()

	for _, url := range []string{public.URL + "/live?query={__typename}", public.URL + "/health", public.URL + "/metrics", operators.URL + "/metrics"} {
		r, err := http.Get(url)
		if err != nil {
			log.Fatal(err)
		}
		r.Body.Close()
		fmt.Println(r.StatusCode)
	}
	// Output:
	// 200
	// 200
	// 404
	// 200
}

// A route that accepts WebSockets in a way of its own: with what Config.Upgrade would be, of any library.
func ExampleServer_ServeSocket() {
	srv, end := running(notifyql.Config{Auth: notifyql.Trust()})
	defer end()
	var upgrade notifyql.Upgrade // gorilla.Upgrader(), for one
	r := chi.NewRouter()
	r.Get("/rooms/{room}/live", func(w http.ResponseWriter, r *http.Request) {
		if chi.URLParam(r, "room") != "blue" {
			http.NotFound(w, r)
			return
		}
		socket, err := upgrade(w, r, srv.Handshake())
		if err != nil {
			return // it has been answered
		}
		if err := srv.ServeSocket(r.Context(), socket, r); err != nil {
			log.Print(err)
		}
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/rooms/red/live", nil))
	fmt.Println(w.Code)
	// Output: 404
}
