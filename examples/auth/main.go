// Who may see what, by the program's own sessions: a cookie, or a key in the payload of connection_init.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/notifyql/notifyql"
)

// sessions stand for where the program has them.
var sessions = map[string]notifyql.Identity{
	"secret-of-ann": {UserID: "ann", Tenants: []string{"acme"}, Roles: []string{"clerk"}},
}

func authenticate(_ context.Context, init json.RawMessage, r *http.Request) (notifyql.Identity, error) {
	var payload struct{ Key string }
	if len(init) > 0 {
		if err := json.Unmarshal(init, &payload); err != nil {
			return notifyql.Identity{}, err
		}
	}
	key := payload.Key
	if cookie, err := r.Cookie("session"); err == nil && key == "" {
		key = cookie.Value
	}
	id, ok := sessions[key]
	if !ok {
		return notifyql.Identity{}, errors.New("no such session") // for the log; the client is told that it is forbidden
	}
	id.ExpiresAt = time.Now().Add(time.Hour) // then the socket is closed
	return id, nil
}

func main() {
	srv, err := notifyql.New(notifyql.Config{
		DatabaseURL: os.Getenv("DATABASE_URL"),
		Auth:        authenticate,
		Recheck:     time.Minute, // who has logged out is found out
		OnSubscribe: func(_ context.Context, sub *notifyql.Subscription) (where map[string]any, err error) {
			if sub.Table == "public.orders" { // a clerk sees what is to be done
				return map[string]any{"status": map[string]any{"ne": "shipped"}}, nil
			}
			return nil, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/graphql", srv.Handler())
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), mux))
}
