package pg

import (
	"context"

	"github.com/notifyql/notifyql/internal/change"
)

// Rows implements subs.History.
func (s *Source) Rows(ctx context.Context, q *change.Query, limit int, page func([]change.Change) error) (change.Cursor, error) {
	return change.Cursor{}, change.ErrUnreadable
}
