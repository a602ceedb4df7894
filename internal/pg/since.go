package pg

import (
	"context"
	"errors"

	"github.com/notifyql/notifyql/internal/change"
)

// Since implements subs.History.
func (s *Source) Since(ctx context.Context, from, to change.Cursor, topic change.Topic, tenants []string, limit int) (change.Page, error) {
	return change.Page{}, errors.ErrUnsupported
}
