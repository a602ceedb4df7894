package gql

import (
	"slices"
	"strings"
	"sync"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

// family is the schemas that identities see of one catalog: the whole, and for each set of columns that some may not see one without
// them, made when the first of them comes. In it there is no such column, for any path: nothing has to be taken out anywhere.
type family struct {
	whole      *Schema
	restricted []restriction
	build      func(hidden map[columnID]bool) (*Schema, error)

	mu       sync.Mutex
	variants []*variant // the last used first
}

// maxVariants bounds how many are kept. Roles come from without, but only those that policies name make a difference.
const maxVariants = 32

// columnID is a column of a watched table.
type columnID struct {
	watch  change.WatchID
	number int16
}

// restriction is a column that only some roles see.
type restriction struct {
	columnID
	roles []string
}

// variant is the schema of who may not see some columns.
type variant struct {
	key    string // which of the restrictions hide a column
	schema func() (*Schema, error)
}

func restrictions(c catalog.Catalog) (all []restriction) {
	for _, t := range c.Tables {
		for _, p := range t.Policies {
			if p.Kind == catalog.ColumnPolicy {
				all = append(all, restriction{columnID{t.Watch, p.Column}, p.Roles})
			}
		}
	}
	return all
}

// as gives the schema that an identity sees.
func (s *Schema) as(id *auth.Identity) (*Schema, errorList) {
	f := s.family
	if id == nil {
		id = &auth.Identity{}
	}
	var key strings.Builder
	hidden := map[columnID]bool{}
	for _, r := range f.restricted {
		if id.HasRole(r.roles) {
			key.WriteByte('1')
		} else {
			key.WriteByte('0')
			hidden[r.columnID] = true
		}
	}
	if len(hidden) == 0 {
		return f.whole, nil
	}
	v, err := f.variant(key.String(), hidden).schema()
	if err != nil {
		s.log().Error("the schema without some columns can't be made; who may not see them is refused", "error", err)
		return nil, oneError(codeInternal, nil, "internal error")
	}
	return v, nil
}

// variant finds a variant, or keeps a new one, to be built by who wants it first: others wait.
func (f *family) variant(key string, hidden map[columnID]bool) *variant {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.variants, func(v *variant) bool { return v.key == key })
	var v *variant
	if at >= 0 {
		v = f.variants[at]
		f.variants = slices.Delete(f.variants, at, at+1)
	} else {
		v = &variant{key: key, schema: sync.OnceValues(func() (*Schema, error) {
			s, err := f.build(hidden)
			if err != nil {
				return nil, err
			}
			s.family, s.cache.max = f, keptByVariants/maxVariants
			for field, t := range s.tables {
				t.whole = f.whole.tables[field]
				t.hides = len(t.columns) < len(t.whole.columns)
			}
			return s, nil
		})}
	}
	f.variants = slices.Insert(f.variants[:min(len(f.variants), maxVariants-1)], 0, v)
	return v
}
