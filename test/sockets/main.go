// Command sockets is a server whose sockets are those of the library that LIBRARY names. The tests of the whole run it beside the real binary.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/socket/gorilla"
	"github.com/notifyql/notifyql/socket/gws"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust()}
	switch library := os.Getenv("LIBRARY"); library {
	case "gorilla":
		c.Upgrade = gorilla.Upgrader()
	case "gws":
		c.Upgrade = gws.Upgrader()
	default:
		log.Fatalf("no such library: %q", library)
	}
	srv, err := notifyql.New(c)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", srv.OpsHandler())
	mux.Handle("/graphql", srv.Handler())
	server := &http.Server{Addr: os.Getenv("NOTIFYQL_ADDR"), Handler: mux}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
