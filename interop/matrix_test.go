package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/interop/client"
	"github.com/kalda-io/kalda/interop/matrix"
	"github.com/kalda-io/kalda/interop/scenario"
	"github.com/kalda-io/kalda/interop/target"
)

// fixture is what the tests share: the built program, made once by TestMain.
var fixture struct {
	bin target.Binary
}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// parallelCells is how many cells of the matrix run at once unless -parallel says otherwise: they
// wait for sessions and rebalances more than they compute.
const parallelCells = "12"

func testMain(m *testing.M) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallelCells); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "kalda-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	kind, err := target.KindFromEnv()
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		fixture.bin, err = target.Build(ctx, kind, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return m.Run()
}

// start starts a node that ends with the test, cleanly or the test fails.
func start(t *testing.T, o target.Options) *target.Node {
	t.Helper()
	n, err := target.Start(t.Context(), fixture.bin, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-n.Done():
			t.Errorf("the node ended by itself\n%s", n.Log())
			return
		default:
		}
		if err := n.Stop(20 * time.Second); err != nil {
			t.Error(err)
		} else if t.Failed() {
			t.Logf("the node said:\n%s", n.Log())
		}
	})
	return n
}

// kfakeDiffers lists where franz-go's fake cluster is known not to do as Kafka does, by scenario and
// client. There a failure is expected; a pass means that this list is out of date, unless always is
// false.
func kfakeDiffers(scenario, clientName string) (why string, always bool) {
	switch {
	case strings.HasPrefix(scenario, "old producer"):
		return "takes no message sets, and advertises Produce from version 3", true
	case scenario == "topic: compression.type" || scenario == "topic: LogAppendTime":
		return "stores batches as they come", true
	case clientName == "kcat" && slices.Contains([]string{"codec gzip", "codec snappy", "codec lz4"}, scenario):
		return "advertises Produce from version 3, so librdkafka believes it without these codecs (KAFKA-18659)", true
	case clientName == "franz-go" && scenario == "group: static restart":
		return "rebalances when a static member's metadata bytes differ; Kafka asks only whether the protocol changes", false
	case clientName != "kcat" && (scenario == "admin: delete group" || scenario == "admin: committed offsets"):
		return "answers GROUP_ID_NOT_FOUND to an OffsetFetch for an unknown group; Kafka answers -1", true
	}
	return "", false
}

// absent stands for a client whose program is not installed, so that its column still shows.
type absent struct {
	name string
	why  *client.Missing
}

// clients returns every client of the matrix; a program that is missing is in absents.
func clients(t *testing.T, addr string) (present []client.Client, absents []absent) {
	t.Helper()
	present = []client.Client{client.NewFranz(addr), client.NewSarama(addr), client.NewKafkaGo(addr)}
	k, err := client.NewKcat(addr)
	var missing *client.Missing
	switch {
	case errors.As(err, &missing):
		absents = append(absents, absent{"kcat", missing})
	case err != nil:
		t.Fatal(err)
	default:
		present = append(present, k)
	}
	return present, absents
}

// skipMissing skips, or fails where KALDA_NO_SKIP=1 allows no skip.
func skipMissing(t *testing.T, why *client.Missing) {
	t.Helper()
	if os.Getenv("KALDA_NO_SKIP") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// TestMatrix runs every scenario with every client. KALDA_INTEROP_MATRIX names files to write the
// matrix to, separated by commas: Markdown, or JSON where the name ends in .json.
func TestMatrix(t *testing.T) {
	node := start(t, target.Options{})
	observer := client.NewFranz(node.Kafka())
	present, absents := clients(t, node.Kafka())

	var columns []matrix.Column
	for _, c := range present {
		columns = append(columns, matrix.Column{Client: c.Name(), Version: c.Version()})
	}
	for _, a := range absents {
		columns = append(columns, matrix.Column{Client: a.name, Version: "(not installed)"})
	}
	var rows []string
	for _, s := range scenario.All() {
		rows = append(rows, s.Name)
	}
	m := matrix.New(string(fixture.bin.Kind), rows, columns)

	t.Run("run", func(t *testing.T) { // returns when all parallel cells are done
		for _, s := range scenario.All() {
			for _, c := range present {
				t.Run(s.Name+"/"+c.Name(), func(t *testing.T) {
					t.Parallel()
					began := time.Now()
					err := s.Do(t.Context(), c, observer)
					cell := matrix.Cell{Scenario: s.Name, Client: c.Name(), Outcome: matrix.Pass, Millis: time.Since(began).Milliseconds()}
					if reason, na := client.IsUnsupported(err); na {
						cell.Outcome, cell.Reason = matrix.NA, reason
						m.Put(cell)
						t.Logf("n/a: %s", reason)
						return
					}
					if why, always := kfakeDiffers(s.Name, c.Name()); why != "" && fixture.bin.Kind == target.Kfake {
						if err == nil && always {
							t.Error("passed, although kfake is listed as different here: ", why)
						}
						cell.Outcome, cell.Reason = matrix.NA, "kfake "+why
						m.Put(cell)
						return
					}
					if err != nil {
						cell.Outcome, cell.Reason = matrix.Fail, err.Error()
						m.Put(cell)
						t.Fatal(err)
					}
					m.Put(cell)
				})
			}
			for _, a := range absents {
				t.Run(s.Name+"/"+a.name, func(t *testing.T) {
					m.Put(matrix.Cell{Scenario: s.Name, Client: a.name, Outcome: matrix.Skip, Reason: a.why.Error()})
					skipMissing(t, a.why)
				})
			}
		}
	})
	t.Logf("\n%s", m.Markdown())
	for _, path := range strings.Split(os.Getenv("KALDA_INTEROP_MATRIX"), ",") {
		if path == "" {
			continue
		}
		if err := m.Write(path); err != nil {
			t.Error(err)
		}
	}
}
