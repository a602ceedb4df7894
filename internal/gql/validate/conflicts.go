package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Fields of one response key must be mergeable: the same field with the same arguments, unless they are on types of
// which no value can be both, and in any case of the same shape. The rule is checked on what a selection set comes to
// with its fragments taken in, each group of equal key against its first field: that is a matter of each field once, not
// of each pair, as both "is the same field" and "has the same shape" carry over.

// entry is a field as it stands in a collection; up is the field whose selection set it comes from.
type entry struct {
	field  *ast.Field
	parent *ast.Definition
	up     *entry
}

// response is the fields of one response key.
type response struct{ entries []*entry }

// collection is what selection sets come to.
type collection struct {
	v       *validator
	order   []*response
	byName  map[string]*response
	seen    map[string]bool // fragments, of the selection set being added
	literal bool            // apply @skip and @include where they are literal
}

// add takes a selection set in. Each set brings its own view of which fragments it has: the same fragment below two
// different fields is two groups of fields.
func (c *collection) add(set ast.SelectionSet, parent *ast.Definition, up *entry) {
	for _, sel := range set {
		if c.v.work++; c.v.work > maxWork {
			return
		}
		switch sel := sel.(type) {
		case *ast.Field:
			if c.literal && excluded(sel.Directives) {
				continue
			}
			r := c.byName[sel.Alias]
			if r == nil {
				r = &response{}
				c.byName[sel.Alias] = r
				c.order = append(c.order, r)
			}
			r.entries = append(r.entries, &entry{sel, parent, up})
		case *ast.InlineFragment:
			if c.literal && excluded(sel.Directives) {
				continue
			}
			typ := parent
			if sel.TypeCondition != "" {
				typ = c.v.schema.Types[sel.TypeCondition]
			}
			c.add(sel.SelectionSet, typ, up)
		case *ast.FragmentSpread:
			if c.literal && excluded(sel.Directives) {
				continue
			}
			if def := c.v.fragments[sel.Name]; def != nil && !c.seen[sel.Name] {
				c.seen[sel.Name] = true
				c.add(def.SelectionSet, c.v.schema.Types[def.TypeCondition], up)
			}
		}
	}
}

// excluded reports whether a literal @skip or @include leaves something out.
func excluded(dirs ast.DirectiveList) bool {
	for _, d := range dirs {
		if cond := d.Arguments.ForName("if"); cond != nil && cond.Value.Kind == ast.BooleanValue {
			if d.Name == "skip" && cond.Value.Raw == "true" || d.Name == "include" && cond.Value.Raw == "false" {
				return true
			}
		}
	}
	return false
}

// maxWork is how many fields the check may come by. Fragments on interfaces could make it come by the same ones again
// and again; what is beyond is refused.
const maxWork = 200_000

// conflicts checks all operations, and the fragments that none of them uses.
func (v *validator) conflicts() {
	v.told = map[[2]*ast.Field]bool{}
	for _, s := range v.scopes {
		var set ast.SelectionSet
		var parent *ast.Definition
		if s.op != nil {
			set = s.op.SelectionSet
			parent, _ = v.root(s.op.Operation)
		} else {
			set, parent = s.fragment.SelectionSet, s.fragment.Definition
		}
		c := &collection{v: v, byName: map[string]*response{}, seen: map[string]bool{}}
		c.add(set, parent, nil)
		v.sameField(c)
		v.sameShape(c)
	}
	if v.work > maxWork {
		v.fail(nil, "The document's fragments overlap in too many ways to be checked.")
	}
}

// below is what the fields of a group select.
func (v *validator) below(entries []*entry) *collection {
	c := &collection{v: v, byName: map[string]*response{}}
	for _, e := range entries {
		if len(e.field.SelectionSet) == 0 {
			continue
		}
		c.seen = map[string]bool{}
		var typ *ast.Definition
		if e.field.Definition != nil {
			typ = v.schema.Types[e.field.Definition.Type.Name()]
		}
		c.add(e.field.SelectionSet, typ, e)
	}
	return c
}

// sameShape checks what holds of all fields of one key.
func (v *validator) sameShape(c *collection) {
	for _, r := range c.order {
		first := r.entries[0]
		for _, e := range r.entries[1:] {
			a, b := first.field.Definition, e.field.Definition
			if a != nil && b != nil && v.shapesDiffer(a.Type, b.Type) {
				v.conflict(first, e, fmt.Sprintf("they return conflicting types %q and %q", a.Type, b.Type))
			}
		}
		if v.work <= maxWork {
			v.sameShape(v.below(r.entries))
		}
	}
}

func (v *validator) shapesDiffer(a, b *ast.Type) bool {
	switch {
	case a.NonNull != b.NonNull || (a.Elem == nil) != (b.Elem == nil):
		return true
	case a.Elem != nil:
		return v.shapesDiffer(a.Elem, b.Elem)
	}
	x, y := v.schema.Types[a.NamedType], v.schema.Types[b.NamedType]
	return x != nil && y != nil && (x.IsLeafType() || y.IsLeafType()) && x != y
}

// sameField checks what holds of fields that one value can have both of.
func (v *validator) sameField(c *collection) {
	for _, r := range c.order {
		for _, group := range together(r.entries) {
			first := group[0]
			for _, e := range group[1:] {
				switch {
				case first.field.Name != e.field.Name:
					v.conflict(first, e, fmt.Sprintf("%q and %q are different fields", first.field.Name, e.field.Name))
				case !sameArguments(first.field.Arguments, e.field.Arguments):
					v.conflict(first, e, "they have differing arguments")
				}
			}
			if v.work <= maxWork {
				v.sameField(v.below(group))
			}
		}
	}
}

// together splits fields by the object types that they are on; those on interfaces and unions go with each.
func together(entries []*entry) [][]*entry {
	types := []*ast.Definition{}
	for _, e := range entries {
		if e.parent != nil && e.parent.Kind == ast.Object && !slices.Contains(types, e.parent) {
			types = append(types, e.parent)
		}
	}
	if len(types) < 2 {
		return [][]*entry{entries}
	}
	groups := make([][]*entry, len(types))
	for i, t := range types {
		for _, e := range entries {
			if e.parent == nil || e.parent.Kind != ast.Object || e.parent == t {
				groups[i] = append(groups[i], e)
			}
		}
	}
	return groups
}

func sameArguments(a, b ast.ArgumentList) bool {
	if len(a) != len(b) {
		return false
	}
	given := make(map[string]*ast.Value, len(a))
	for _, arg := range a {
		given[arg.Name] = arg.Value
	}
	for _, arg := range b {
		if other := given[arg.Name]; other == nil || !sameValue(other, arg.Value) {
			return false
		}
	}
	return true
}

func sameValue(a, b *ast.Value) bool {
	if a.Kind != b.Kind || a.Raw != b.Raw || len(a.Children) != len(b.Children) {
		return false
	}
	if a.Kind == ast.ObjectValue {
		given := make(map[string]*ast.Value, len(a.Children))
		for _, c := range a.Children {
			given[c.Name] = c.Value
		}
		for _, c := range b.Children {
			if other := given[c.Name]; other == nil || !sameValue(other, c.Value) {
				return false
			}
		}
		return true
	}
	for i, c := range a.Children {
		if !sameValue(c.Value, b.Children[i].Value) {
			return false
		}
	}
	return true
}

// conflict tells of two fields that cannot both be, by way of the fields that they are below of up to where those are
// one.
func (v *validator) conflict(a, b *entry, reason string) {
	if v.told[[2]*ast.Field{a.field, b.field}] {
		return
	}
	v.told[[2]*ast.Field{a.field, b.field}] = true
	left, right := []place{here(a.field.Position)}, []place{here(b.field.Position)}
	for a.up != b.up && a.up != nil && b.up != nil {
		reason = fmt.Sprintf("subfields %q conflict because %s", a.field.Alias, reason)
		a, b = a.up, b.up
		left, right = append(left, here(a.field.Position)), append(right, here(b.field.Position))
	}
	slices.Reverse(left)
	slices.Reverse(right)
	v.fail(append(left, right...), "Fields %q conflict because %s. Use different aliases on the fields to fetch both if this was intentional.", a.field.Alias, strings.TrimSuffix(reason, "."))
}
