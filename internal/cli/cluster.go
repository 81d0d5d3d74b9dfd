package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
)

func (a *app) clusterCommand() *cobra.Command {
	return groupCommand("cluster", "Show the cluster, its brokers, its health and its configuration",
		a.clusterInfo(), a.clusterHealth(), a.clusterBrokers(), a.clusterConfig())
}

// clusterSummary is the answer of `cluster info`.
type clusterSummary struct {
	ID         string    `json:"cluster_id"`
	Controller int32     `json:"controller"`
	Brokers    int       `json:"brokers"`
	Topics     int       `json:"topics"` // without the internal ones
	Partitions int       `json:"partitions"`
	Features   []feature `json:"features,omitempty"`
}

func (a *app) clusterInfo() *cobra.Command {
	cmd := &cobra.Command{Use: "info", Short: "Show what the cluster is", Args: noArgs}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			info, err := c.cluster(ctx)
			if err != nil {
				return err
			}
			s := clusterSummary{ID: info.id, Controller: info.controller, Brokers: len(info.brokers)}
			for i := range info.topics {
				if !info.topics[i].internal {
					s.Topics++
					s.Partitions += len(info.topics[i].partitions)
				}
			}
			if s.Features, err = c.features(ctx); err != nil {
				return err
			}
			return printResult(a.Stdout, *out, s, func(w io.Writer, wide bool) error {
				controller := "none"
				if s.Controller >= 0 {
					controller = fmt.Sprintf("broker %d", s.Controller)
				}
				fmt.Fprintf(w, "cluster     %s\n", s.ID)
				fmt.Fprintf(w, "controller  %s\n", controller)
				fmt.Fprintf(w, "brokers     %d\n", s.Brokers)
				fmt.Fprintf(w, "topics      %d\n", s.Topics)
				_, err := fmt.Fprintf(w, "partitions  %d\n", s.Partitions)
				for _, f := range s.Features {
					if wide && err == nil {
						_, err = fmt.Fprintf(w, "feature     %s=%d\n", f.Name, f.Level)
					}
				}
				return err
			})
		})
	}
	return cmd
}

// healthReport is the answer of `cluster health`.
type healthReport struct {
	Healthy    bool     `json:"healthy"`
	Brokers    int      `json:"brokers"`
	Topics     int      `json:"topics"`
	Partitions int      `json:"partitions"`
	Problems   []string `json:"problems"`
}

// judge finds what is wrong with a cluster. Internal topics count.
func judge(info *clusterInfo) healthReport {
	r := healthReport{Brokers: len(info.brokers), Topics: len(info.topics), Problems: []string{}}
	bad := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if info.controller < 0 {
		bad("the cluster has no controller")
	}
	r.Problems = append(r.Problems, info.broken...)
	for i := range info.topics {
		t := &info.topics[i]
		for _, p := range t.partitions {
			r.Partitions++
			tp := model.TopicPartition{Topic: t.name, Partition: p.n}
			switch {
			case p.leader < 0:
				bad("%s has no leader (replicas %s)", tp, ints(p.replicas))
			case len(p.isr) < len(p.replicas):
				var out []int32
				for _, b := range p.replicas {
					if !slices.Contains(p.isr, b) {
						out = append(out, b)
					}
				}
				bad("%s: %d of %d replicas in sync, not %s", tp, len(p.isr), len(p.replicas), ints(out))
			case len(p.offline) > 0:
				bad("%s: replicas offline on %s", tp, ints(p.offline))
			}
		}
	}
	r.Healthy = len(r.Problems) == 0
	return r
}

// shownProblems bounds the text of `cluster health`; wide and data show all.
const shownProblems = 20

func (a *app) clusterHealth() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check that every partition has its leader and its replicas",
		Long: `Check that the cluster has a controller and that every partition has a leader and all of
its replicas in sync, and that no broker knows of damage in its records. The exit code is 6
when something is wrong.`,
		Args: noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			info, err := c.cluster(ctx)
			if err != nil {
				return err
			}
			info.broken = append(info.broken, damagedPartitions(c.sizes(ctx))...)
			r := judge(info)
			err = printResult(a.Stdout, *out, r, func(w io.Writer, wide bool) error {
				if r.Healthy {
					_, err := fmt.Fprintf(w, "healthy: %s, %s, %s\n", plural(int64(r.Brokers), "broker"), plural(int64(r.Topics), "topic"), plural(int64(r.Partitions), "partition"))
					return err
				}
				for i, p := range r.Problems {
					if i == shownProblems && !wide {
						fmt.Fprintf(w, "and %d more; -o wide shows all\n", len(r.Problems)-i)
						break
					}
					if _, err := fmt.Fprintln(w, p); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil && !r.Healthy {
				return &failure{what: "unhealthy: " + plural(int64(len(r.Problems)), "problem"), code: ExitUnhealthy}
			}
			return err
		})
	}
	return cmd
}

// brokerRow is a broker in `cluster brokers`.
type brokerRow struct {
	brokerInfo
	Controller bool   `json:"controller"`
	Leaders    int    `json:"leaders"`
	Replicas   int    `json:"replicas"`
	Stored     *int64 `json:"stored,omitempty"`
}

func (a *app) clusterBrokers() *cobra.Command {
	cmd := &cobra.Command{Use: "brokers", Short: "List the brokers and what they carry", Args: noArgs}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			info, err := c.cluster(ctx)
			if err != nil {
				return err
			}
			stored := c.storedByBroker(ctx)
			rows := make([]brokerRow, 0, len(info.brokers))
			for _, b := range info.brokers {
				r := brokerRow{brokerInfo: b, Controller: b.ID == info.controller}
				if n, ok := stored[b.ID]; ok {
					r.Stored = &n
				}
				for i := range info.topics {
					for _, p := range info.topics[i].partitions {
						if p.leader == b.ID {
							r.Leaders++
						}
						if slices.Contains(p.replicas, b.ID) {
							r.Replicas++
						}
					}
				}
				rows = append(rows, r)
			}
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				t := table{cols: []column{{head: "BROKER", right: true}, {head: "ADDRESS"}, {head: "LEADERS", right: true}, {head: "REPLICAS", right: true}, {head: "STORED", right: true}, {head: "RACK", wide: true}, {head: "ROLE"}}}
				for _, r := range rows {
					role := ""
					if r.Controller {
						role = "controller"
					}
					t.add(strconv.Itoa(int(r.ID)), hostPort(r.Host, r.Port), strconv.Itoa(r.Leaders), strconv.Itoa(r.Replicas), sizeOrDash(r.Stored), r.Rack, role)
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

func (a *app) clusterConfig() *cobra.Command {
	var set, unset []string
	var broker int32
	cmd := &cobra.Command{
		Use:   "config [KEY...]",
		Short: "Show or change the configuration of the brokers",
		Long: `Show the configuration of the brokers: without a KEY all that differs from the defaults,
with --all everything. --set and --unset change it while they run, for all brokers or for
the one that --broker names.

  kalda cluster config log.retention.ms
  kalda cluster config --set log.retention.ms=7d`,
		Args: cobra.ArbitraryArgs,
	}
	f := cmd.Flags()
	f.StringArrayVar(&set, "set", nil, "`KEY=VALUE` for all brokers, or for --broker")
	f.StringArrayVar(&unset, "unset", nil, "`KEY` that goes back to the file's value or the default")
	f.Int32Var(&broker, "broker", -1, "broker `ID` only")
	all := f.Bool("all", false, "also what has its default")
	dryRun := f.Bool("dry-run", false, "only check whether the change would work")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.Changed("broker") && broker < 0 {
			return usage("--broker %d: no broker", broker)
		}
		if len(set)+len(unset) > 0 {
			if len(args) > 0 {
				return usage("unexpected argument %q beside --set and --unset", args[0])
			}
			changes, err := parseChanges(set, unset, nil, nil)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
				target, name := "", "all brokers"
				if broker >= 0 {
					target = strconv.Itoa(int(broker))
					name = "broker " + target
				}
				done := "changed"
				if *dryRun {
					done = "could change"
				}
				return a.tell(*out, "configure", done, []string{name}, []error{c.alterConfig(ctx, brokerResource, target, changes, *dryRun)})
			})
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			if broker < 0 {
				info, err := c.cluster(ctx)
				if err != nil {
					return err
				}
				if broker, err = info.someBroker(); err != nil {
					return err
				}
			}
			entries, err := c.describeConfig(ctx, brokerResource, strconv.Itoa(int(broker)))
			if err != nil {
				return failed(err, "configuration of broker %d", broker)
			}
			shown, err := pickConfig(entries, args, *all)
			if err != nil {
				return err
			}
			return printResult(a.Stdout, *out, shown, func(w io.Writer, wide bool) error {
				if len(shown) == 0 {
					a.note("everything has its default; --all shows it")
					return nil
				}
				t := table{cols: []column{{head: "KEY"}, {head: "VALUE"}, {head: "FROM"}, {head: "MEANING", wide: true}}}
				for _, e := range shown {
					t.add(e.Key, valueText(&e), e.Source, e.Doc)
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

// valueText is a value as a table shows it.
func valueText(e *configEntry) string {
	switch {
	case e.Sensitive:
		return "(hidden)"
	case e.Value == nil:
		return "-"
	}
	return *e.Value
}

// pickConfig selects keys by name, else what is not a default, else all.
func pickConfig(entries []configEntry, keys []string, all bool) ([]configEntry, error) {
	shown := []configEntry{}
	if len(keys) == 0 {
		for _, e := range entries {
			if all || e.Source != "default" {
				shown = append(shown, e)
			}
		}
		return shown, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Key
	}
	for _, k := range keys {
		i := slices.Index(names, k)
		if i < 0 {
			f := &failure{what: "no configuration key " + k, code: ExitNotFound}
			if n := nearest(k, names); n != "" {
				f.hint = "did you mean " + n + "?"
			}
			return nil, f
		}
		shown = append(shown, entries[i])
	}
	return shown, nil
}
