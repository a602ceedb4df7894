// Subscriptions in a program that has net/http and nothing else.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/notifyql/notifyql"
)

func main() {
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/graphql", srv.Handler())
	mux.Handle("/health", srv.HealthHandler())
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), mux))
}
