package gql

import (
	"context"
	"slices"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/auth"
)

// Execute answers a query: introspection and serverInfo. It gives an ExecutionResult, also for a request that fails.
func (s *Schema) Execute(ctx context.Context, r Request, id *auth.Identity) []byte {
	out, _ := s.Answer(ctx, r, id)
	return out
}

// Answer is Execute, and reports whether the request got as far as being executed.
func (s *Schema) Answer(ctx context.Context, r Request, id *auth.Identity) (result []byte, executed bool) {
	var failed errorList
	func() {
		defer s.contain(&failed)
		var seen *Schema
		if seen, failed = s.as(id); failed == nil {
			result, failed = seen.execute(ctx, r, id)
		}
	}()
	if failed != nil {
		return slices.Concat([]byte(`{"errors":`), failed.json(), []byte("}")), false
	}
	return result, true
}

func (s *Schema) execute(ctx context.Context, r Request, id *auth.Identity) ([]byte, errorList) {
	doc, failed := s.document(r)
	if failed != nil {
		return nil, failed
	}
	if doc.op.Operation == ast.Subscription {
		return nil, oneError(codeUnsupported, doc.op.Position, "The operation is a subscription: it needs a WebSocket, with the subprotocol graphql-transport-ws.")
	}
	if doc.op.Operation != ast.Query {
		return nil, oneError(codeUnsupported, doc.op.Position, "The operation is a %s, not a query.", doc.op.Operation)
	}
	root, failed := s.rootSelections(doc.op, r.Variables)
	if failed != nil {
		return nil, failed
	}
	res := &result{buf: []byte(`{"data":`)}
	w := &writer{result: res, schema: s.ast, log: s.log()}
	sel := &selection{name: "Query", kids: map[string][]*selection{s.ast.Query.Name: root}}
	w.value(sel, ast.NamedType(s.ast.Query.Name, nil), query{ctx, s, id})
	res.buf = append(res.buf, '}')
	return res.finish(), nil
}

// query is the root of queries.
type query struct {
	ctx    context.Context // of the request that it answers
	schema *Schema
	id     *auth.Identity
}

func (query) typename() string { return "Query" }

func (q query) get(field string, args map[string]any) any {
	switch field {
	case "__schema":
		return introSchema{q.schema.ast}
	case "__type":
		name, _ := args["name"].(string)
		if def := q.schema.ast.Types[name]; def != nil {
			return introType{s: q.schema.ast, def: def}
		}
		return nil
	case "_service":
		return service{q.schema}
	case "_entities":
		return q.entities(args)
	case "serverInfo":
		return serverInfo{q.schema.options.Version}
	}
	return nil
}

type serverInfo struct{ version string }

func (serverInfo) typename() string { return "ServerInfo" }

func (i serverInfo) get(field string, _ map[string]any) any {
	switch field {
	case "name":
		return "notifyql"
	case "version":
		return i.version
	}
	return time.Now().UTC().Format("2006-01-02T15:04:05.999999Z07:00")
}
