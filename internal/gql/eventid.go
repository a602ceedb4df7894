package gql

import (
	"bytes"

	"github.com/notifyql/notifyql/internal/change"
)

// EventID is the cursor that a frame of the plan's shows of itself, to resume from behind the frame; empty if it shows none.
func (p *Plan) EventID(frame []byte) string {
	for _, sels := range p.root.kids {
		for _, s := range sels {
			if s.name != "cursor" {
				continue
			}
			value := frame
			for _, key := range []string{"data", p.root.key, s.key} {
				var row change.Row
				if row.Parse(value) != nil {
					return ""
				}
				value, _ = row.Get(key, 0)
			}
			if text, ok := bytes.CutPrefix(value, []byte{'"'}); ok {
				return string(bytes.TrimSuffix(text, []byte{'"'}))
			}
		}
	}
	return ""
}
