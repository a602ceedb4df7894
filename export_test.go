package notifyql

import "github.com/jackc/pgx/v5/pgxpool"

// DatabasePool gives the pool's counters.
func (s *Server) DatabasePool() func() *pgxpool.Stat { return s.database.Pool }
