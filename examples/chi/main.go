package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/notifyql/notifyql"
)

func main() {
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())
	r := chi.NewRouter()
	r.Use(middleware.Logger, middleware.Compress(5))
	r.Mount("/graphql", srv.Handler())
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), r))
}
