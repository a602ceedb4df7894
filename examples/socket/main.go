// Sockets of gorilla/websocket: those of the handler, and those of a route that accepts them in its own way.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/socket/gorilla"
)

func main() {
	upgrade := gorilla.Upgrader()
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust(), Upgrade: upgrade})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/graphql", srv.Handler())
	mux.HandleFunc("GET /tenants/{tenant}/live", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("tenant") != "acme" {
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
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), mux))
}
