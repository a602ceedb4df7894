// The changes of a table as they come, in process: one line of JSON each, without a socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/notifyql/notifyql"
)

func main() {
	ctx := context.Background()
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(ctx)

	stream, err := srv.Subscribe(ctx, notifyql.Request{
		Query:     `subscription($status: String) { ordersChanged(initial: true, where: {status: {eq: $status}}) { kind new { id status } } }`,
		Variables: map[string]any{"status": "paid"},
		Identity:  notifyql.Identity{UserID: "the billing job", Tenants: []string{"acme"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for {
		payload, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			return // the server has ended
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", payload)
	}
}
