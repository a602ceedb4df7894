package gql

import (
	"context"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

func TestBatch(t *testing.T) {
	t.Parallel()
	s := build(t)
	p := plan(t, s, `subscription { b: ordersBatch(where: {quantity: {gt: 1}}) { complete __typename changes { kind new { id note } } c: changes { transaction } } }`, "", tenantA)
	if !p.Batches() || plan(t, s, `subscription { ordersChanged { kind } }`, "", tenantA).Batches() {
		t.Error("Batches is wrong")
	}
	matched := func(c change.Change, e subs.Effect) subs.Matched {
		return subs.Matched{Match: *parsed(t, &c, tenantA), Effect: e}
	}
	one := updated("a", "a", orderOld, orderOld)
	noID := updated("a", "a", orderOld, strings.Replace(orderOld, `"id":7`, `"id":null`, 1))
	broken := updated("a", "a", orderOld, orderOld)
	broken.Unserializable = true
	got := string(p.EncodeBatch(context.Background(), []subs.Matched{
		matched(one, subs.Changes), matched(broken, subs.Failed), matched(noID, subs.Enters), matched(one, subs.Leaves),
	}, false))
	want := `{"errors":[` +
		`{"message":"A change was written whose row cannot be converted to JSON.","locations":[{"line":1,"column":81}],"path":["b","changes"],"extensions":{"code":"UNSERIALIZABLE"}},` +
		`{"message":"Cannot return null for non-nullable field Orders.id.","locations":[{"line":1,"column":102}],"path":["b","changes",1,"new","id"],"extensions":{"code":"NULL_IN_NON_NULL"}},` +
		`{"message":"A change was written whose row cannot be converted to JSON.","locations":[{"line":1,"column":114}],"path":["b","c"],"extensions":{"code":"UNSERIALIZABLE"}}],` +
		`"data":{"b":{"complete":false,"__typename":"OrdersBatch","changes":[{"kind":"UPDATE","new":{"id":"7","note":"hi \"x\""}},{"kind":"INSERT","new":null},{"kind":"DELETE","new":null}],` +
		`"c":[{"transaction":"42"},{"transaction":"42"},{"transaction":"42"}]}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(p.EncodeBatch(context.Background(), nil, true)); got != `{"data":{"b":{"complete":true,"__typename":"OrdersBatch","changes":[],"c":[]}}}` {
		t.Error(got)
	}
	single := plan(t, s, `subscription { b: ordersChanged(where: {quantity: {gt: 1}}) { __typename } }`, "", tenantA)
	batch := plan(t, s, `subscription { b: ordersBatch(where: {quantity: {gt: 1}}) { __typename } }`, "", tenantA)
	if single.Key() == batch.Key() {
		t.Error("changes and batches share a group")
	}
}
