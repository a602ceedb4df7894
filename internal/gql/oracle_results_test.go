package gql

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// TestOracleResults has graphql-js execute the valid documents over made-up events, and compares the JSON: values, the
// order of keys, and where errors are.
func TestOracleResults(t *testing.T) {
	t.Parallel()
	s := oracleSchema(t)
	loose, _, err := Build(nullable(oracleCatalog()), nil)
	if err != nil {
		t.Fatal(err)
	}
	zoo, err := os.ReadFile("testdata/zoo.json")
	if err != nil {
		t.Fatal(err)
	}
	var animals []json.RawMessage
	if err := json.Unmarshal(zoo, &animals); err != nil {
		t.Fatal(err)
	}
	var cases []oracleCase
	var results []string
	for _, c := range corpus(t) {
		if v := ours(t, s, c); v.Stage != "ok" {
			continue
		}
		r := Request{Query: c.Query, OperationName: c.Operation, Variables: c.Variables}
		p, errs := s.Subscribe(r, tenantA)
		if errs != nil {
			c.Roots = append(c.Roots, json.RawMessage(`{"serverInfo":{"name":"notifyql"}}`))
			results = append(results, string(s.Execute(context.Background(), r, nil)))
			cases = append(cases, c)
			continue
		}
		events := tableEvents(p.topics[0])
		if p.table == nil {
			events = nil
			for _, data := range animals {
				events = append(events, change.Change{Op: change.Event, Topic: p.topics[0], Shared: true, New: data})
			}
		}
		for i := range events {
			for _, e := range []subs.Effect{subs.Changes, subs.Stands, subs.None} {
				if out := encodeAny(t, p, &events[i], e); out != "" {
					c.Roots = append(c.Roots, rootOf(t, loose, p, &events[i], e))
					results = append(results, out)
				}
			}
		}
		cases = append(cases, c)
	}
	answer := askOracle(t, map[string]any{"sdl": s.SDL(), "cases": cases, "ours": results})
	n := 0
	for i, c := range cases {
		if len(answer.Cases[i].Results) != len(c.Roots) {
			t.Fatalf("%s: %s", c.name, answer.Cases[i])
		}
		for j, want := range answer.Cases[i].Results {
			if got := answer.Ours[n]; got != want {
				t.Errorf("%s\n  %s\n  over %s\n    ours   %s\n    theirs %s", c.name, c.Query, c.Roots[j], got, want)
			}
			n++
		}
	}
	t.Logf("%d results of %d documents", n, len(cases))
}

// tableEvents are changes with images of all kinds: whole, with nulls, and with a null where none can be.
func tableEvents(topic change.Topic) (events []change.Change) {
	images := []string{orderOld, strings.NewReplacer("NaN,", "2.5,", `"NaN"`, "1e3").Replace(orderNew), strings.Replace(orderOld, `"id":7`, `"id":null`, 1)}
	if topic.Watch == 2 {
		images = []string{`{"order_id":1,"line":"a"}`, `{"order_id":1,"line":"b"}`, `{"order_id":null,"line":null}`}
	}
	for i := range images {
		if topic.Watch == 1 {
			images[i] = strings.TrimSuffix(images[i], "}") + `,"lasts":"1 mon","at":"12:00:00","local":"2024-02-29T12:00:00"}`
		}
	}
	for i, image := range images {
		c := updated("a", "a", images[(i+1)%len(images)], image)
		c.Topic = topic
		events = append(events, c)
	}
	return events
}

// rootOf is what the root field resolves to, with all its fields: of a table, read through a schema that has nothing
// against nulls.
func rootOf(t testing.TB, loose *Schema, p *Plan, c *change.Change, e subs.Effect) json.RawMessage {
	if p.field == channelField {
		event := map[string]any{"kind": "EVENT", "channel": c.Topic.Channel, "type": "", "data": json.RawMessage(c.New), "cursor": place.In(change.PartOf(c)).String()}
		if e == subs.None {
			event["kind"], event["data"], event["cursor"] = "SYNCED", nil, place.String()
		}
		root, _ := json.Marshal(map[string]any{channelField: event})
		return root
	}
	if p.table == nil {
		root, _ := json.Marshal(map[string]any{p.field: json.RawMessage(c.New)})
		return root
	}
	var row strings.Builder
	for _, col := range p.table.columns {
		row.WriteString(" " + col.name)
	}
	fields := "{ kind cause key oldKey transaction committedAt cursor changedFields new {" + row.String() + " } old {" + row.String() + " } }"
	if p.Batches() {
		fields = "{ complete synced cursor changes " + fields + " }"
	}
	all := plan(t, loose, "subscription { "+p.field+fields+" }", "", nil)
	var out struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(encodeAny(t, all, c, e)), &out); err != nil {
		t.Fatal(err)
	}
	return out.Data
}

// nullable is a catalog without NOT NULL.
func nullable(c catalog.Catalog) catalog.Catalog {
	for i := range c.Tables {
		for j := range c.Tables[i].Columns {
			c.Tables[i].Columns[j].NotNull = false
		}
	}
	return c
}
