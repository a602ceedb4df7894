// Subscriptions below a prefix of their own, beside the other routes of a chi program, under middleware that is not made for them, and with an
// end that loses nothing.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/notifyql/notifyql"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()})
	if err != nil {
		log.Fatal(err)
	}

	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Logger, middleware.Recoverer)
	r.Use(middleware.Compress(5, "text/html", "application/json", "text/event-stream"))
	r.Use(middleware.Timeout(time.Second)) // of requests: neither a socket nor an event stream ends by it
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("hello\n"))
	})
	r.Route("/api/v1", func(r chi.Router) {
		r.Mount("/live", srv.Handler())
	})
	r.Mount("/internal", srv.HealthHandler()) // /internal/health, /internal/livez

	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: r}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil { // at the end of ctx it closes the sockets, so that clients come back
		log.Fatal(err)
	}
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
