package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/notifyql/notifyql"
)

func (p *program) schema(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("schema", "")
	if err := p.register(fs, &s, "database-url", "federation", "features"); err != nil {
		return err
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	schema, err := notifyql.ReadSchema(ctx, notifyql.Config{DatabaseURL: s.databaseURL, Federation: s.federation, Features: s.features})
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.stdout, schema.SDL)
	return err
}

func (p *program) tail(ctx context.Context, args []string) error {
	fs := p.flags("tail", "'subscription {…}'")
	var tenants []string
	fs.Func("tenant", "whose rows to see; may be given several times", func(s string) error {
		tenants = append(tenants, s)
		return nil
	})
	user := fs.String("user", "", "the user to be")
	var roles []string
	fs.Func("role", "a role to have; may be given several times", func(s string) error {
		roles = append(roles, s)
		return nil
	})
	claims := fs.String("claims", "", "the claims to have, as a JSON object")
	variables := fs.String("variables", "", "variables as a JSON object")
	operation := fs.String("operation", "", "the operation's name, if the document has several")
	return p.inProcess(ctx, fs, args, func(ctx context.Context, srv *notifyql.Server, document string) error {
		r := notifyql.Request{
			Query: document, OperationName: *operation,
			Identity: notifyql.Identity{UserID: *user, Tenants: tenants, Roles: roles},
		}
		if *claims != "" {
			d := json.NewDecoder(strings.NewReader(*claims))
			d.UseNumber() // as from a token
			if err := d.Decode(&r.Identity.Claims); err != nil {
				return fmt.Errorf("--claims is not a JSON object: %w", err)
			}
		}
		if *variables != "" {
			if err := json.Unmarshal([]byte(*variables), &r.Variables); err != nil {
				return fmt.Errorf("--variables is not a JSON object: %w", err)
			}
		}
		if len(tenants) == 0 {
			fmt.Fprintln(p.stderr, "no --tenant is given: only rows of tables that are watched as shared come")
		}
		return follow(ctx, srv, r, func(result []byte) error {
			_, err := fmt.Fprintf(p.stdout, "%s\n", result)
			return err
		})
	})
}

// follow shows the results of an operation until it, the server or ctx ends.
func follow(ctx context.Context, srv *notifyql.Server, r notifyql.Request, show func(result []byte) error) error {
	stream, err := srv.Subscribe(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // it ends here, well or not
	for {
		b, err := stream.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		if err := show(b); err != nil {
			return err
		}
	}
}

// inProcess runs do with its one argument and a server of this process, once that is ready.
func (p *program) inProcess(ctx context.Context, fs *flag.FlagSet, args []string, do func(ctx context.Context, srv *notifyql.Server, document string) error) error {
	var s settings
	if err := p.register(fs, &s, "database-url", "pool-url", "log-level", "log-format"); err != nil {
		return err
	}
	if p.getenv("NOTIFYQL_LOG_LEVEL") == "" {
		s.logLevel = "warn"
	}
	rest, err := p.parse(fs, args, 1)
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
		err = do(ctx, srv, rest[0])
	case <-ctx.Done():
	case err := <-ran:
		return err
	}
	stop()
	return errors.Join(err, <-ran)
}
