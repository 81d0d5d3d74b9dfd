package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

func (a *app) topicCommand() *cobra.Command {
	return groupCommand("topic", "Create, show, change and delete topics",
		a.topicCreate(), a.topicList(), a.topicDescribe(), a.topicAlter(),
		a.topicAddPartitions(), a.topicDelete(), a.topicTrim(), a.topicOffsets())
}

// withClient connects, runs fn within --timeout and closes.
func (a *app) withClient(ctx context.Context, fn func(ctx context.Context, c *client) error) error {
	bound, cancel := a.within(ctx)
	defer cancel()
	c, err := a.open(bound)
	if err != nil {
		return err
	}
	defer c.close()
	p := a.progress(func() string { return "waiting for " + strings.Join(a.brokers, ",") })
	defer p.stop()
	return fn(bound, c)
}

// outcome is what happened to one of several named things.
type outcome struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// tell prints the outcomes of an action on several names. All failures are named; the
// exit code is that of the first.
func (a *app) tell(format, what, done string, names []string, errs []error) error {
	var first error
	list := make([]outcome, len(names))
	for i, n := range names {
		list[i] = outcome{Name: n, OK: errs[i] == nil}
		if errs[i] == nil {
			continue
		}
		if k := protocolError(errs[i]); k != nil {
			list[i].Error = k.Name
		} else {
			list[i].Error = errs[i].Error()
		}
		err := failed(errs[i], "%s %s", what, n)
		if first == nil {
			first = err
		} else {
			report(a.Stderr, err)
		}
	}
	err := printResult(a.Stdout, format, list, func(w io.Writer, _ bool) error {
		for _, o := range list {
			if o.OK {
				if _, err := fmt.Fprintf(w, "%s %s\n", done, o.Name); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(first, err)
}

// parseConfigs reads key=value pairs of --config and --set.
func parseConfigs(flag string, pairs []string) (map[string]*string, error) {
	m := make(map[string]*string, len(pairs))
	for _, kv := range pairs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usage("--%s %s: want key=value", flag, kv)
		}
		m[k] = &v
	}
	return m, nil
}

// alias makes other a second spelling of the flag name.
func alias(f *pflag.FlagSet, other, name string) {
	before := f.GetNormalizeFunc()
	f.SetNormalizeFunc(func(f *pflag.FlagSet, given string) pflag.NormalizedName {
		if given == other {
			given = name
		}
		return before(f, given)
	})
}

func (a *app) topicCreate() *cobra.Command {
	var n newTopic
	var configs []string
	cmd := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics",
		Args:  wantArgs(true, "TOPIC"),
	}
	f := cmd.Flags()
	f.Int32VarP(&n.partitions, "partitions", "p", -1, "number of partitions (default num.partitions of the cluster)")
	f.Int16VarP(&n.replication, "replication", "r", -1, "number of replicas (default default.replication.factor of the cluster)")
	f.StringArrayVarP(&configs, "config", "c", nil, "topic configuration `KEY=VALUE` (also --set)")
	alias(f, "set", "config")
	alias(f, "replication-factor", "replication") // as Kafka's tool calls it
	f.BoolVar(&n.dryRun, "dry-run", false, "only check whether it would work")
	ifNot := f.Bool("if-not-exists", false, "a topic that exists is no failure")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for name, v := range map[string]int64{"partitions": int64(n.partitions), "replication": int64(n.replication)} {
			if f.Changed(name) && v < 1 {
				return usage("--%s %d: must be at least 1", name, v)
			}
		}
		var err error
		if n.configs, err = parseConfigs("config", configs); err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			errs, err := c.createTopics(ctx, n, args)
			if err != nil {
				return err
			}
			var made []string
			var failures []error
			for i := range errs {
				if *ifNot && errors.Is(errs[i], kerr.TopicAlreadyExists) {
					a.note("%s is there already", args[i])
					continue
				}
				made, failures = append(made, args[i]), append(failures, errs[i])
			}
			done := "created"
			if n.dryRun {
				done = "could create"
			}
			return a.tell(*out, "create", done, made, failures)
		})
	}
	return cmd
}

// topicRow is a topic in `topic list`.
type topicRow struct {
	Name        string `json:"name"`
	ID          string `json:"id,omitempty"`
	Partitions  int    `json:"partitions"`
	Replication int    `json:"replication"`
	Internal    bool   `json:"internal,omitempty"`
	Bytes       *int64 `json:"bytes,omitempty"`
}

func (a *app) topicList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Args:  noArgs,
	}
	internal := cmd.Flags().BoolP("internal", "i", false, "also the internal topics")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			topics, err := c.topics(ctx)
			if err != nil {
				return err
			}
			rows := make([]topicRow, 0, len(topics))
			var names []string
			for i := range topics {
				t := &topics[i]
				if t.internal && !*internal {
					continue
				}
				rows = append(rows, topicRow{Name: t.name, ID: t.id, Partitions: len(t.partitions), Replication: t.replication(), Internal: t.internal})
				names = append(names, t.name)
			}
			if *out != outText && len(names) > 0 {
				for tp, stored := range c.sizes(ctx, names...) {
					for i := range rows {
						if rows[i].Name == tp.Topic {
							rows[i].Bytes = addBytes(rows[i].Bytes, stored)
						}
					}
				}
			}
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				if len(rows) == 0 {
					a.note("no topics")
					return nil
				}
				t := table{cols: []column{{head: "TOPIC"}, {head: "PARTITIONS", right: true}, {head: "REPLICATION", right: true}, {head: "STORED", right: true, wide: true}, {head: "ID", wide: true}}}
				for _, r := range rows {
					t.add(r.Name, strconv.Itoa(r.Partitions), strconv.Itoa(r.Replication), sizeOrDash(r.Bytes), r.ID)
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

// addBytes adds what replicas store to a sum that starts as unknown.
func addBytes(sum *int64, stored []replicaSize) *int64 {
	if sum == nil {
		sum = new(int64)
	}
	for _, s := range stored {
		*sum += s.bytes
	}
	return sum
}

func sizeOrDash(n *int64) string {
	if n == nil {
		return "-"
	}
	return humanSize(*n)
}

// topicDetail is a topic in `topic describe`.
type topicDetail struct {
	Name       string         `json:"name"`
	ID         string         `json:"id,omitempty"`
	Internal   bool           `json:"internal,omitempty"`
	Partitions []partitionRow `json:"partitions"`
	Config     []configEntry  `json:"config"`
}

// partitionRow is a partition in `topic describe` and `topic offsets`.
type partitionRow struct {
	Partition   int32        `json:"partition"`
	Leader      int32        `json:"leader"`
	LeaderEpoch int32        `json:"leader_epoch"`
	Replicas    []int32      `json:"replicas"`
	ISR         []int32      `json:"isr"`
	Offline     []int32      `json:"offline,omitempty"`
	Start       *int64       `json:"start"`
	End         *int64       `json:"end"`
	Stored      []storedJSON `json:"stored,omitempty"`
	Error       string       `json:"error,omitempty"`
}

type storedJSON struct {
	Broker     int32           `json:"broker"`
	Bytes      int64           `json:"bytes"`
	Dir        string          `json:"dir"`
	Compaction *compactionJSON `json:"compaction,omitempty"`
	Damage     *damageJSON     `json:"damage,omitempty"`
}

func (a *app) topicDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe TOPIC...",
		Short: "Show topics, their partitions and their configuration",
		Args:  wantArgs(true, "TOPIC"),
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			topics, err := c.topics(ctx, args...)
			if err != nil {
				return err
			}
			var list []topicDetail
			for i := range topics {
				d, err := c.describeTopic(ctx, &topics[i])
				if err != nil {
					return err
				}
				list = append(list, *d)
			}
			return printResult(a.Stdout, *out, list, func(w io.Writer, wide bool) error {
				for i := range list {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := printTopic(w, &list[i], wide); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return cmd
}

// describeTopic gathers what the commands show about a topic. Offsets of partitions
// without a leader are left out.
func (c *client) describeTopic(ctx context.Context, t *topicInfo) (*topicDetail, error) {
	d := &topicDetail{Name: t.name, ID: t.id, Internal: t.internal}
	var err error
	if d.Config, err = c.describeConfig(ctx, topicResource, t.name); err != nil {
		return nil, failed(err, "configuration of %s", t.name)
	}
	starts, ends, err := c.ends(ctx, t.name)
	if err != nil {
		return nil, err
	}
	stored := c.sizes(ctx, t.name)
	for _, p := range t.partitions {
		r := partitionRow{Partition: p.n, Leader: p.leader, LeaderEpoch: p.leaderEpoch, Replicas: p.replicas, ISR: p.isr, Offline: p.offline}
		if o, ok := starts[p.n]; ok {
			r.Start = &o
		}
		if o, ok := ends[p.n]; ok {
			r.End = &o
		}
		if k := protocolError(p.err); k != nil {
			r.Error = k.Name
		}
		for _, s := range stored[model.TopicPartition{Topic: t.name, Partition: p.n}] {
			r.Stored = append(r.Stored, storedJSON{s.broker, s.bytes, s.dir, compactionOf(s.compaction), damageOf(s.damage)})
		}
		d.Partitions = append(d.Partitions, r)
	}
	return d, nil
}

func printTopic(w io.Writer, d *topicDetail, wide bool) error {
	fmt.Fprintf(w, "%s: %s, replication %d", d.Name, plural(int64(len(d.Partitions)), "partition"), replicationOf(d))
	if d.ID != "" {
		fmt.Fprintf(w, ", id %s", d.ID)
	}
	if d.Internal {
		fmt.Fprint(w, ", internal")
	}
	fmt.Fprintln(w)
	for _, e := range d.Config {
		if (wide || e.Source == "topic") && e.Value != nil {
			fmt.Fprintf(w, "  %s=%s", e.Key, *e.Value)
			if wide {
				fmt.Fprintf(w, "  (%s)", e.Source)
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w)
	t := table{cols: []column{
		{head: "PARTITION", right: true}, {head: "LEADER", right: true}, {head: "REPLICAS"}, {head: "ISR"},
		{head: "START", right: true}, {head: "END", right: true}, {head: "RECORDS", right: true}, {head: "STORED", right: true},
		{head: "EPOCH", right: true, wide: true}, {head: "DIRECTORY", wide: true},
	}}
	bound := compacts(d.Config)
	compacted := d.compacted()
	if compacted {
		t.cols = append(t.cols, column{head: "DIRTY", right: true}, column{head: "COMPACTED"})
	}
	damaged := d.damaged()
	if damaged {
		t.cols = append(t.cols, column{head: "DAMAGED"})
	}
	for _, p := range d.Partitions {
		records, stored, leader := "-", "-", "none"
		if p.Start != nil && p.End != nil {
			records = recordsCell(*p.Start, *p.End, bound)
		}
		var dirs []string
		var sum int64
		for _, s := range p.Stored {
			sum += s.Bytes
			dirs = append(dirs, s.Dir)
			stored = humanSize(sum)
		}
		if p.Leader >= 0 {
			leader = strconv.Itoa(int(p.Leader))
		}
		cells := []string{strconv.Itoa(int(p.Partition)), leader, ints(p.Replicas), ints(p.ISR),
			numOrDash(p.Start), numOrDash(p.End), records, stored, strconv.Itoa(int(p.LeaderEpoch)), strings.Join(dirs, " ")}
		if compacted {
			cells = append(cells, p.compactionCells()...)
		}
		if damaged {
			cells = append(cells, p.damageCell())
		}
		t.add(cells...)
	}
	return t.write(w, wide)
}

func replicationOf(d *topicDetail) int {
	if len(d.Partitions) == 0 {
		return 0
	}
	return len(d.Partitions[0].Replicas)
}

func numOrDash(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func (a *app) topicAlter() *cobra.Command {
	var set, unset, add, remove []string
	cmd := &cobra.Command{
		Use:   "alter TOPIC",
		Short: "Change the configuration of a topic",
		Args:  wantArgs(false, "TOPIC"),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&set, "set", "c", nil, "`KEY=VALUE` (also --config); units as in the configuration (7d, 2MiB)")
	alias(f, "config", "set")
	f.StringArrayVar(&unset, "unset", nil, "`KEY` that goes back to the cluster's value")
	f.StringArrayVar(&add, "append", nil, "`KEY=VALUE` added to a list")
	f.StringArrayVar(&remove, "remove", nil, "`KEY=VALUE` taken out of a list")
	dryRun := f.Bool("dry-run", false, "only check whether it would work")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		changes, err := parseChanges(set, unset, add, remove)
		if err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			done := "changed"
			if *dryRun {
				done = "could change"
			}
			return a.tell(*out, "alter", done, args, []error{c.alterConfig(ctx, topicResource, args[0], changes, *dryRun)})
		})
	}
	return cmd
}

// parseChanges reads the flags of a configuration change.
func parseChanges(set, unset, add, remove []string) ([]configChange, error) {
	var changes []configChange
	for _, f := range []struct {
		name  string
		pairs []string
		op    configOp
	}{{"set", set, setConfig}, {"append", add, appendConfig}, {"remove", remove, removeConfig}} {
		for _, kv := range f.pairs {
			k, v, ok := strings.Cut(kv, "=")
			if !ok || k == "" {
				return nil, usage("--%s %s: want key=value", f.name, kv)
			}
			changes = append(changes, configChange{f.op, k, &v})
		}
	}
	for _, k := range unset {
		if k == "" || strings.Contains(k, "=") {
			return nil, usage("--unset %s: want a key", k)
		}
		changes = append(changes, configChange{unsetConfig, k, nil})
	}
	if len(changes) == 0 {
		return nil, usage("nothing to change: say --set key=value or --unset key")
	}
	return changes, nil
}

func (a *app) topicAddPartitions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add-partitions TOPIC TOTAL",
		Short: "Grow a topic to a number of partitions",
		Long: `Grow a topic to TOTAL partitions. Partitions are never taken away, and a key may belong
to another partition afterwards: the order per key holds only among records written since.`,
		Args: wantArgs(false, "TOPIC", "TOTAL"),
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only check whether it would work")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.ParseInt(args[1], 10, 32)
		if err != nil || n < 1 {
			return usage("%q is no number of partitions", args[1])
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			done := "grew"
			if *dryRun {
				done = "could grow"
			}
			return a.tell(*out, "grow", done, args[:1], []error{c.setPartitions(ctx, args[0], int(n), *dryRun)})
		})
	}
	return cmd
}

func (a *app) topicDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics and all their records",
		Args:  wantArgs(true, "TOPIC"),
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.confirm(*yes, "delete "+strings.Join(args, ", ")+" with all records"); err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			errs, err := c.deleteTopics(ctx, args)
			if err != nil {
				return err
			}
			return a.tell(*out, "delete", "deleted", args, errs)
		})
	}
	return cmd
}
