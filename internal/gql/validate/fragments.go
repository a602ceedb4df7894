package validate

import (
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// cycles finds fragments that spread themselves, each circle once.
func (v *validator) cycles() {
	visited := map[string]bool{}
	index := map[string]int{} // of fragments on the path
	var path []*ast.FragmentSpread
	spreads := map[string][]*ast.FragmentSpread{}
	for _, s := range v.scopes {
		if s.fragment != nil && v.fragments[s.fragment.Name] == s.fragment {
			spreads[s.fragment.Name] = s.spreads
		}
	}
	var visit func(name string)
	visit = func(name string) {
		if visited[name] {
			return
		}
		visited[name] = true
		index[name] = len(path)
		for _, s := range spreads[name] {
			path = append(path, s)
			if from, circle := index[s.Name]; circle {
				v.circle(s.Name, path[from:])
			} else {
				visit(s.Name)
			}
			path = path[:len(path)-1]
		}
		delete(index, name)
	}
	for _, f := range v.doc.Fragments {
		visit(f.Name)
	}
}

func (v *validator) circle(name string, path []*ast.FragmentSpread) {
	v.cyclic = true
	// A long way round is told in part, as many circles as there may be.
	var places []place
	var via []string
	for i, s := range path[:min(len(path), maxLocations)] {
		places = append(places, before(s.Position, 1))
		if i < len(path)-1 {
			via = append(via, `"`+s.Name+`"`)
		}
	}
	text := ""
	if len(via) > 0 {
		text = " via " + strings.Join(via, ", ")
	}
	v.fail(places, "Cannot spread fragment %q within itself%s.", name, text)
}

// subscription checks that a subscription has one root field, and not one of introspection.
func (v *validator) subscription(op *ast.OperationDefinition) {
	if op.Operation != ast.Subscription || v.schema.Subscription == nil {
		return
	}
	c := &collection{v: v, byName: map[string]*response{}, seen: map[string]bool{}, literal: true}
	c.add(op.SelectionSet, v.schema.Subscription, nil)
	name := "Anonymous Subscription"
	if op.Name != "" {
		name = `Subscription "` + op.Name + `"`
	}
	var extra []place
	for i, r := range c.order {
		places := make([]place, len(r.entries))
		for j, e := range r.entries {
			places[j] = here(e.field.Position)
		}
		if i > 0 {
			extra = append(extra, places...)
		}
		if strings.HasPrefix(r.entries[0].field.Name, "__") {
			v.fail(places, "%s must not select an introspection top level field.", name)
		}
	}
	if len(extra) > 0 {
		v.fail(extra, "%s must select only one top level field.", name)
	}
}

// maxLists is how deep the lists of introspection may nest.
const maxLists = 3

// introspectionDepth refuses introspection that multiplies the schema with itself.
func (v *validator) introspectionDepth() {
	d := depth{v: v, clear: map[string]int{}, exceeds: map[string]int{}, visiting: map[string]int{}}
	var find func(set ast.SelectionSet)
	find = func(set ast.SelectionSet) {
		for _, sel := range set {
			switch sel := sel.(type) {
			case *ast.Field:
				if sel.Name == "__schema" || sel.Name == "__type" {
					if d.field(sel, 0) {
						v.fail(at(sel.Position), "Maximum introspection depth exceeded")
					}
					continue
				}
				find(sel.SelectionSet)
			case *ast.InlineFragment:
				find(sel.SelectionSet)
			}
		}
	}
	for _, op := range v.doc.Operations {
		find(op.SelectionSet)
	}
	for _, f := range v.doc.Fragments {
		find(f.SelectionSet)
	}
}

// depth counts nested lists. A fragment is looked into again only from deeper than before.
type depth struct {
	v        *validator
	visiting map[string]int // fragments being looked into, by the depth at which they were entered
	clear    map[string]int // the greatest depth from which a fragment did not exceed
	exceeds  map[string]int // the smallest from which it did
}

func (d *depth) set(set ast.SelectionSet, n int) bool {
	for _, sel := range set {
		over := false
		switch sel := sel.(type) {
		case *ast.Field:
			over = d.field(sel, n)
		case *ast.InlineFragment:
			over = d.set(sel.SelectionSet, n)
		case *ast.FragmentSpread:
			over = d.fragment(sel.Name, n)
		}
		if over {
			return true
		}
	}
	return false
}

func (d *depth) field(f *ast.Field, n int) bool {
	switch f.Name {
	case "fields", "interfaces", "possibleTypes", "inputFields":
		if n++; n >= maxLists {
			return true
		}
	}
	return d.set(f.SelectionSet, n)
}

func (d *depth) fragment(name string, n int) bool {
	def := d.v.fragments[name]
	if def == nil {
		return false
	}
	if at, ok := d.exceeds[name]; ok && at <= n {
		return true
	}
	if at, ok := d.clear[name]; ok && at >= n {
		return false
	}
	if at, ok := d.visiting[name]; ok && at >= n {
		return false
	}
	was, nested := d.visiting[name]
	d.visiting[name] = n
	over := d.set(def.SelectionSet, n)
	if nested {
		d.visiting[name] = was
	} else {
		delete(d.visiting, name)
	}
	if over {
		d.exceeds[name] = n
	} else {
		d.clear[name] = n
	}
	return over
}
