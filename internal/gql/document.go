package gql

import (
	"container/list"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/gql/validate"
)

// document is a document that was parsed and found valid, with the operation chosen.
type document struct {
	key string
	op  *ast.OperationDefinition
}

// maxKept is how many bytes the documents kept by a schema may have in all; keptByVariants, by all the schemas of who may not see some
// columns. Their trees take some fifty times that.
const (
	maxKept        = 2 << 20
	keptByVariants = 4 << 20
)

// documents keeps the newest valid documents parsed. One lock guards it.
type documents struct {
	limit int // of their number
	max   int // of their bytes
	mu    sync.Mutex
	bytes int
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
	d.bytes += len(doc.key)
	for d.order.Len() > d.limit || d.bytes > d.max {
		key := d.order.Remove(d.order.Back()).(*document).key
		delete(d.byKey, key)
		d.bytes -= len(key)
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
	if bad, tooMany := validate.Syntax(r.Query, limits.Tokens); tooMany {
		return nil, errorList{limitError(nil, "tokens", limits.Tokens, "The document has more than %d tokens.", limits.Tokens)}
	} else if bad != nil {
		return nil, errorList{located(codeParse, *bad)}
	}
	parsed, err := parser.ParseQuery(&ast.Source{Input: r.Query})
	if err != nil {
		return nil, errorList{foreign(codeParse, err)}
	}
	if err := measure(parsed, limits); err != nil {
		return nil, errorList{err}
	}
	if errs := s.validate(parsed, r.Query); errs != nil {
		return nil, errs
	}
	if s.options.NoIntrospection {
		if err := introspects(parsed); err != nil {
			return nil, errorList{err}
		}
	}
	op, failed := operation(parsed, r.OperationName)
	if failed != nil {
		return nil, errorList{failed}
	}
	doc := &document{key: key, op: op}
	s.cache.put(doc)
	return doc, nil
}

// introspects refuses a document that asks for the schema.
func introspects(doc *ast.QueryDocument) (err *gqlError) {
	var find func(set ast.SelectionSet)
	find = func(set ast.SelectionSet) {
		for _, sel := range set {
			switch sel := sel.(type) {
			case *ast.Field:
				if sel.Name == "__schema" || sel.Name == "__type" {
					err = newError(codeValidation, sel.Position, "Introspection is switched off: %s can't be asked for.", sel.Name)
				}
				find(sel.SelectionSet)
			case *ast.InlineFragment:
				find(sel.SelectionSet)
			}
		}
	}
	for _, op := range doc.Operations {
		find(op.SelectionSet)
	}
	for _, f := range doc.Fragments {
		find(f.SelectionSet)
	}
	return err
}

// validate holds a document against the schema.
func (s *Schema) validate(doc *ast.QueryDocument, source string) (errs errorList) {
	for _, e := range validate.Document(s.ast, doc, source, s.checkLiteral) {
		errs = append(errs, located(codeValidation, e))
	}
	return errs
}

func located(code string, e validate.Error) *gqlError {
	one := newError(code, nil, "%s", e.Message)
	for _, l := range e.Locations {
		one.Locations = append(one.Locations, location(l))
	}
	return one
}

// checkLiteral says what is wrong with a literal of a scalar of ours, or of custom SDL.
func (s *Schema) checkLiteral(def *ast.Definition, v *ast.Value) string {
	c := coercer{schema: s.ast, limits: s.options.Limits}
	if anyJSON(def) {
		return "" // variables in it are not known yet
	}
	if _, bad := c.leaf(def, literalInput(v)); bad != nil {
		return bad.want + "."
	}
	return ""
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

// OperationKind tells what an identity's request asks for: a query to Execute, a subscription to Subscribe, or errors as a JSON array.
func (s *Schema) OperationKind(r Request, id *auth.Identity) (kind ast.Operation, errs []byte) {
	var failed errorList
	defer func() { errs = failed.json() }()
	defer s.contain(&failed)
	seen, failed := s.as(id)
	if failed != nil {
		return "", failed.json()
	}
	doc, failed := seen.document(r)
	if failed != nil {
		return "", failed.json()
	}
	return doc.op.Operation, nil
}
