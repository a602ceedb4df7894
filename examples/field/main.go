// A subscription field of one's own: typed, over events that are no rows, with a resolver in Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/notifyql/notifyql"
)

// progress is what is published about a job.
type progress struct {
	Job         string `json:"job"`
	Done, Total int
}

var jobProgress = notifyql.Field{
	SDL: `
		extend type Subscription { jobProgress(job: String!): Progress! }
		type Progress { job: String! percent: Float! text: String! }`,
	Channel: "jobs",
	Resolve: func(_ context.Context, e *notifyql.FieldEvent) (any, error) {
		var p progress
		if err := json.Unmarshal(e.Data, &p); err != nil {
			return nil, err
		}
		if p.Job != e.Args["job"] {
			return nil, notifyql.ErrSkip // another one's
		}
		if p.Total == 0 {
			return nil, fmt.Errorf("nobody knows how long %s will take", p.Job)
		}
		return map[string]any{"job": p.Job, "percent": 100 * float64(p.Done) / float64(p.Total), "text": fmt.Sprintf("%d of %d", p.Done, p.Total)}, nil
	},
	SameForAll: true, // it does not look at e.Identity
}

func main() {
	srv, err := notifyql.New(notifyql.Config{
		DatabaseURL: os.Getenv("DATABASE_URL"), Auth: notifyql.Trust(), Fields: []notifyql.Field{jobProgress},
	})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Run(context.Background())

	mux := http.NewServeMux()
	mux.Handle("/graphql", srv.Handler())
	mux.HandleFunc("POST /work", func(w http.ResponseWriter, r *http.Request) {
		err := srv.Publish(r.Context(), notifyql.Event{
			Channel: "jobs", Tenant: "acme", Data: map[string]any{"job": r.FormValue("job"), "done": 3, "total": 4},
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), mux))
}
