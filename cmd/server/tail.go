package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/notifyql/notifyql"
)

func (p *program) schema(ctx context.Context, args []string) error {
	fs := p.flags("schema", "")
	return p.inProcess(ctx, fs, args, 0, func(ctx context.Context, srv *notifyql.Server, _ []string) error {
		_, err := io.WriteString(p.stdout, srv.SDL())
		return err
	})
}

func (p *program) tail(ctx context.Context, args []string) error {
	fs := p.flags("tail", "'subscription {…}'")
	var tenants []string
	fs.Func("tenant", "whose rows to see; may be given several times", func(s string) error {
		tenants = append(tenants, s)
		return nil
	})
	user := fs.String("user", "", "the user to be")
	variables := fs.String("variables", "", "variables as a JSON object")
	operation := fs.String("operation", "", "the operation's name, if the document has several")
	return p.inProcess(ctx, fs, args, 1, func(ctx context.Context, srv *notifyql.Server, rest []string) error {
		r := notifyql.Request{
			Query: rest[0], OperationName: *operation,
			Identity: notifyql.Identity{UserID: *user, Tenants: tenants},
		}
		if *variables != "" {
			if err := json.Unmarshal([]byte(*variables), &r.Variables); err != nil {
				return fmt.Errorf("--variables is not a JSON object: %w", err)
			}
		}
		stream, err := srv.Subscribe(ctx, r)
		if err != nil {
			return err
		}
		defer stream.Close() //nolint:errcheck // the process ends
		for {
			b, err := stream.Next(ctx)
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
				return nil
			case err != nil:
				return err
			}
			if _, err := fmt.Fprintf(p.stdout, "%s\n", b); err != nil {
				return err
			}
		}
	})
}

// inProcess runs do with a server of this process, once it is ready.
func (p *program) inProcess(ctx context.Context, fs *flag.FlagSet, args []string, n int, do func(context.Context, *notifyql.Server, []string) error) error {
	var s settings
	if err := p.register(fs, &s, "database-url", "pool-url", "log-level", "log-format"); err != nil {
		return err
	}
	if p.getenv("NOTIFYQL_LOG_LEVEL") == "" {
		s.logLevel = "warn"
	}
	rest, err := p.parse(fs, args, n)
	if err != nil {
		return err
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	log, err := p.logger(&s)
	if err != nil {
		return err
	}
	srv, err := notifyql.New(notifyql.Config{DatabaseURL: s.databaseURL, PoolURL: s.poolURL, Logger: log})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
		err = do(ctx, srv, rest)
	case <-ctx.Done():
	case err := <-ran:
		return err
	}
	stop()
	return errors.Join(err, <-ran)
}
