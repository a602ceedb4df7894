package gql

import (
	"container/list"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// document is a document that was parsed and found valid, with the operation chosen.
type document struct {
	key string
	op  *ast.OperationDefinition
}

// documents keeps the newest valid documents parsed. One lock guards it.
type documents struct {
	limit int
	mu    sync.Mutex
	byKey map[string]*list.Element
	order list.List // of *document, the last used first
}

func (d *documents) get(key string) *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.byKey[key]
	if e == nil {
		return nil
	}
	d.order.MoveToFront(e)
	return e.Value.(*document)
}

func (d *documents) put(doc *document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byKey == nil {
		d.byKey = map[string]*list.Element{}
	}
	if d.byKey[doc.key] != nil {
		return
	}
	d.byKey[doc.key] = d.order.PushFront(doc)
	for d.order.Len() > d.limit {
		last := d.order.Back()
		delete(d.byKey, last.Value.(*document).key)
		d.order.Remove(last)
	}
}

// document parses and validates a request's document and finds its operation.
func (s *Schema) document(r Request) (*document, errorList) {
	key := r.OperationName + "\x00" + r.Query
	if doc := s.cache.get(key); doc != nil {
		return doc, nil
	}
	limits := s.options.Limits
	if len(r.Query) > limits.Bytes {
		return nil, errorList{limitError(nil, "documentBytes", limits.Bytes, "The document has more than %d bytes.", limits.Bytes)}
	}
	if strings.TrimSpace(r.Query) == "" {
		return nil, oneError(codeParse, nil, "The request has no document: send one in \"query\".")
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: r.Query}, limits.Tokens)
	if err != nil {
		if strings.HasPrefix(foreign("", err).Message, "exceeded ") {
			return nil, errorList{limitError(nil, "tokens", limits.Tokens, "The document has more than %d tokens.", limits.Tokens)}
		}
		return nil, errorList{foreign(codeParse, err)}
	}
	if err := measure(parsed, limits); err != nil {
		return nil, errorList{err}
	}
	if found := validator.ValidateWithRules(s.ast, parsed, documentRules()); len(found) > 0 {
		var errs errorList
		for _, e := range found {
			errs = append(errs, foreign(codeValidation, e))
		}
		return nil, errs
	}
	op, failed := operation(parsed, r.OperationName)
	if failed != nil {
		return nil, errorList{failed}
	}
	doc := &document{key: key, op: op}
	s.cache.put(doc)
	return doc, nil
}

func documentRules() *rules.Rules {
	return rules.NewDefaultRules()
}

// operation chooses the operation by name, or the only one.
func operation(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, *gqlError) {
	switch {
	case name != "":
		if op := doc.Operations.ForName(name); op != nil {
			return op, nil
		}
		return nil, newError(codeOperation, nil, "Unknown operation named %q.", name)
	case len(doc.Operations) == 1:
		return doc.Operations[0], nil
	case len(doc.Operations) == 0:
		return nil, newError(codeOperation, nil, "The document has no operation.")
	}
	return nil, newError(codeOperation, nil, "Must provide operation name if query contains multiple operations.")
}

// OperationKind tells what a request asks for: a query to Execute, a subscription to Subscribe, or errors as a JSON array.
func (s *Schema) OperationKind(r Request) (kind ast.Operation, errs []byte) {
	var failed errorList
	defer func() { errs = failed.json() }()
	defer s.contain(&failed)
	doc, failed := s.document(r)
	if failed != nil {
		return "", failed.json()
	}
	return doc.op.Operation, nil
}
