package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
	"github.com/notifyql/notifyql"
)

func main() {
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())
	r := chi.NewRouter()
	r.Mount("/graphql", srv.Handler())
	log.Fatal(http.ListenAndServe(":8000", r))
}
