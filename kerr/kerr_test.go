package kerr_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/kerr"
	oracle "github.com/twmb/franz-go/pkg/kerr"
)

const lastCode = 136

// asKafka are the codes that Kafka's own client retries and franz-go does not: an open
// transaction ends, and a lost share session is begun anew.
var asKafka = map[int16]bool{51: true, 122: true, 123: true}

func TestTableMatchesFranzGo(t *testing.T) {
	all := kerr.All()
	if len(all) != lastCode+1 { // -1 and 1..136
		t.Fatalf("%d errors, want %d", len(all), lastCode+1)
	}
	names := map[string]bool{}
	for i, e := range all {
		if want := int16(i) - 1; i == 0 && e.Code != -1 || i > 0 && e.Code != want+1 {
			t.Errorf("%s: code %d at place %d", e.Name, e.Code, i)
		}
		if names[e.Name] {
			t.Errorf("%s occurs twice", e.Name)
		}
		names[e.Name] = true
		o := oracle.TypedErrorForCode(e.Code)
		if o == nil {
			t.Errorf("%d %s: not known elsewhere", e.Code, e.Name)
			continue
		}
		// Kafka renamed code 6 when followers began to serve reads (KIP-392).
		if e.Name != o.Message && e.Code != 6 {
			t.Errorf("%d: name %s, elsewhere %s", e.Code, e.Name, o.Message)
		}
		if e.Retriable != o.Retriable && !asKafka[e.Code] {
			t.Errorf("%s: retriable %v, elsewhere %v", e.Name, e.Retriable, o.Retriable)
		}
	}
	for code := range int16(1000) {
		o := oracle.TypedErrorForCode(code)
		if _, ok := kerr.ForCode(code); code > 0 && ok != (o != nil && o.Code == code) {
			t.Errorf("code %d: known here %v, elsewhere %v", code, ok, o)
		}
	}
}

// Texts go into sentences ("error: TEXT (NAME)"), so they have one form.
func TestTexts(t *testing.T) {
	seen := map[string]string{}
	for _, e := range kerr.All() {
		for _, s := range []string{e.Text, e.Hint} {
			if strings.HasSuffix(s, ".") || strings.TrimSpace(s) != s || len(s) > 90 {
				t.Errorf("%s: %q", e.Name, s)
			}
		}
		if e.Text == "" || strings.ToUpper(e.Text[:1]) == e.Text[:1] {
			t.Errorf("%s: text %q", e.Name, e.Text)
		}
		if other := seen[e.Text]; other != "" {
			t.Errorf("%s and %s have the same text", e.Name, other)
		}
		seen[e.Text] = e.Name
		if want := e.Text + " (" + e.Name + ")"; e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
}

// Every variable says in its comment which error it is and when a broker returns it.
func TestDocComments(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "table.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*kerr.Error{}
	for _, e := range kerr.All() {
		byName[e.Name] = e
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		v, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		n++
		name := strings.Trim(v.Values[0].(*ast.CallExpr).Args[1].(*ast.BasicLit).Value, `"`)
		text := strings.Join(strings.Fields(v.Doc.Text()), " ")
		head := fmt.Sprintf("%s is %s (%d). ", v.Names[0], name, byName[name].Code)
		if rest, ok := strings.CutPrefix(text, head); !ok || len(rest) < 20 || !strings.HasSuffix(rest, ".") {
			t.Errorf("%s: %q", v.Names[0], text)
		}
		return true
	})
	if n != lastCode+1 {
		t.Errorf("%d variables, want %d", n, lastCode+1)
	}
}

func TestForCode(t *testing.T) {
	if e, ok := kerr.ForCode(0); e != nil || !ok {
		t.Errorf("0: %v %v", e, ok)
	}
	for _, code := range []int16{-2, -32768, lastCode + 1, 32767} {
		if e, ok := kerr.ForCode(code); e != kerr.UnknownServerError || ok {
			t.Errorf("%d: %v %v", code, e, ok)
		}
	}
	for _, want := range kerr.All() {
		if e, ok := kerr.ForCode(want.Code); e != want || !ok {
			t.Errorf("%d: %v %v", want.Code, e, ok)
		}
	}
}

func TestAllIsACopy(t *testing.T) {
	kerr.All()[0] = nil
	if kerr.All()[0] != kerr.UnknownServerError {
		t.Error("a caller changed the table")
	}
}

func TestChain(t *testing.T) {
	detail := kerr.With(kerr.InvalidConfig, "no %s", "key")
	wrapped := fmt.Errorf("alter t: %w", detail)
	for _, c := range []struct {
		err  error
		of   *kerr.Error
		code int16
		msg  string
	}{
		{nil, nil, 0, ""},
		{kerr.InvalidConfig, kerr.InvalidConfig, 40, kerr.InvalidConfig.Text},
		{fmt.Errorf("x: %w", kerr.InvalidConfig), kerr.InvalidConfig, 40, kerr.InvalidConfig.Text},
		{detail, kerr.InvalidConfig, 40, "no key"},
		{wrapped, kerr.InvalidConfig, 40, "no key"},
		{errors.New("disk"), kerr.UnknownServerError, -1, kerr.UnknownServerError.Text},
	} {
		if kerr.Of(c.err) != c.of || kerr.Code(c.err) != c.code {
			t.Errorf("%v: %v %d", c.err, kerr.Of(c.err), kerr.Code(c.err))
		}
		switch m := kerr.Message(c.err); {
		case c.err == nil && m != nil:
			t.Errorf("nil: message %q", *m)
		case c.err != nil && *m != c.msg:
			t.Errorf("%v: message %q, want %q", c.err, *m, c.msg)
		}
	}
	if !errors.Is(wrapped, kerr.InvalidConfig) || errors.Is(wrapped, kerr.InvalidRequest) {
		t.Error("errors.Is")
	}
	if detail.Error() != "no key (INVALID_CONFIG)" {
		t.Errorf("%q", detail)
	}
}
