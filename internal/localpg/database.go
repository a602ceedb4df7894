package localpg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// CreateDatabase makes a database, as a copy of template unless that is empty. Nobody may be connected to the template.
func (s *Server) CreateDatabase(ctx context.Context, name, template string) error {
	sql := "create database " + pgx.Identifier{name}.Sanitize()
	if template != "" {
		sql += " template " + pgx.Identifier{template}.Sanitize()
	}
	if s.install.number() >= 15 { // older ones know no other; without fsync it takes two thirds of the time of wal_log
		sql += " strategy file_copy"
	}
	return s.admin(ctx, sql)
}

// DropDatabase removes a database and ends the sessions in it.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	return s.admin(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)")
}

// Freeze makes a database a template: nobody can connect to it any more.
func (s *Server) Freeze(ctx context.Context, name string) error {
	return s.admin(ctx, "alter database "+pgx.Identifier{name}.Sanitize()+" allow_connections false")
}

// admin runs one statement in the database postgres.
func (s *Server) admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.SocketURL("postgres", "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// freePort picks a port that nobody listens on, below those that systems hand out for outgoing connections: a server
// that comes back after a crash must find its port still free.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}
