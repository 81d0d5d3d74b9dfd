package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

func (a *app) groupCommand() *cobra.Command {
	return groupCommand("group", "Show and change consumer groups and their offsets",
		a.groupList(), a.groupDescribe(), a.groupLag(), a.groupSeek(), a.groupDelete(), a.groupOffsetDelete())
}

// groupRow is a group in `group list`.
type groupRow struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Type        string `json:"type"`
	Members     int    `json:"members"`
	Coordinator int32  `json:"coordinator"`
}

func (a *app) groupList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List groups", Args: noArgs}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			listed, err := c.groups(ctx)
			if err != nil {
				return err
			}
			var names []string
			for _, g := range listed {
				names = append(names, g.name)
			}
			described, err := c.describeGroups(ctx, names...)
			// A group may go between the two questions; then the list alone has to do.
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				return err
			}
			members := make(map[string]int)
			for i := range described {
				members[described[i].name] = len(described[i].members)
			}
			rows := make([]groupRow, 0, len(listed))
			for _, g := range listed {
				rows = append(rows, groupRow{g.name, g.state, g.protocolType, members[g.name], g.coordinator})
			}
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				if len(rows) == 0 {
					a.note("no groups")
					return nil
				}
				t := table{cols: []column{{head: "GROUP"}, {head: "STATE"}, {head: "MEMBERS", right: true}, {head: "TYPE", wide: true}, {head: "COORDINATOR", right: true, wide: true}}}
				for _, r := range rows {
					t.add(r.Group, r.State, strconv.Itoa(r.Members), r.Type, strconv.Itoa(int(r.Coordinator)))
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

// groupDetail is a group in `group describe`.
type groupDetail struct {
	Group       string          `json:"group"`
	State       string          `json:"state"`
	Type        string          `json:"type"`
	Protocol    string          `json:"protocol"`
	Coordinator int32           `json:"coordinator"`
	Lag         *int64          `json:"lag"`         // nil when nothing was committed
	LagSeconds  *float64        `json:"lag_seconds"` // of the partition that is furthest behind
	Idle        string          `json:"idle,omitempty"`
	Members     []memberRow     `json:"members"`
	Partitions  []lagRow        `json:"partitions"`
	Rebalances  []rebalanceJSON `json:"rebalances,omitempty"` // newest first
}

// memberRow is a member of a group.
type memberRow struct {
	ID         string `json:"id"`
	Instance   string `json:"instance,omitempty"`
	Client     string `json:"client"`
	Host       string `json:"host"`
	Partitions int    `json:"partitions"`
	Idle       bool   `json:"idle"`
}

// lagRow is a partition as a group sees it.
type lagRow struct {
	Topic      string   `json:"topic"`
	Partition  int32    `json:"partition"`
	Owner      string   `json:"owner,omitempty"` // member id
	Committed  *int64   `json:"committed"`
	End        *int64   `json:"end"`
	Lag        *int64   `json:"lag"`
	LagSeconds *float64 `json:"lag_seconds"`
}

type rebalanceJSON struct {
	Started    string   `json:"started"`
	Seconds    *float64 `json:"seconds"` // nil while it goes on
	Generation int32    `json:"generation,omitempty"`
	Members    int      `json:"members"`
	Reasons    []string `json:"reasons"`
	More       int      `json:"more_reasons,omitempty"`
}

// lagOf builds the rows of one group: every partition that it committed, owns or has
// subscribed to.
func lagOf(g *groupInfo, committed map[model.TopicPartition]int64, spans map[model.TopicPartition]span) []lagRow {
	owner := make(map[model.TopicPartition]string)
	subscribed := make(map[string]bool)
	all := make(map[model.TopicPartition]bool)
	for _, m := range g.members {
		for _, t := range m.topics {
			subscribed[t] = true
		}
		for _, tp := range m.owned {
			owner[tp], all[tp] = m.id, true
		}
	}
	for tp := range committed {
		all[tp] = true
	}
	for tp := range spans {
		if subscribed[tp.Topic] {
			all[tp] = true
		}
	}
	rows := make([]lagRow, 0, len(all))
	for tp := range all {
		r := lagRow{Topic: tp.Topic, Partition: tp.Partition, Owner: owner[tp]}
		sp, known := spans[tp]
		if known {
			r.End = &sp.end
		}
		if o, ok := committed[tp]; ok {
			r.Committed = &o
			if known {
				// Records before the log start are gone: nobody can be behind on them.
				lag := max(0, sp.end-max(o, sp.start))
				r.Lag = &lag
			}
		}
		rows = append(rows, r)
	}
	sort.Slice(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	return rows
}

// measure fills in how long ago the first record that the group has not consumed was
// written, for all partitions with a lag.
func (a *app) measure(ctx context.Context, spans map[model.TopicPartition]span, lists ...[]lagRow) error {
	first := func(r *lagRow) (firstUnread, bool) {
		if r.Lag == nil || *r.Lag == 0 {
			return firstUnread{}, false
		}
		tp := model.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		return firstUnread{tp, max(*r.Committed, spans[tp].start)}, true
	}
	times := make(map[firstUnread]time.Time)
	wanted := make(map[firstUnread]bool)
	for _, rows := range lists {
		for i := range rows {
			if f, ok := first(&rows[i]); ok {
				wanted[f] = true
			}
		}
	}
	// One round asks for one place in each partition; groups that stand at the same place
	// share the answer.
	for len(wanted) > 0 {
		at := make(map[model.TopicPartition]int64)
		for f := range wanted {
			if _, taken := at[f.tp]; !taken {
				at[f.tp] = f.offset
				delete(wanted, f)
			}
		}
		found, err := a.timestamps(ctx, at)
		if err != nil {
			return err
		}
		for tp, t := range found {
			times[firstUnread{tp, at[tp]}] = t
		}
	}
	for _, rows := range lists {
		for i := range rows {
			r := &rows[i]
			var behind float64
			if f, ok := first(r); ok {
				t, known := times[f]
				if !known {
					continue // not readable in time
				}
				behind = max(0, a.Now().Sub(t).Seconds()) // clocks of others may be ahead
			} else if r.Lag == nil {
				continue
			}
			r.LagSeconds = &behind
		}
	}
	return nil
}

// firstUnread is the place of the first record that a group has not consumed.
type firstUnread struct {
	tp     model.TopicPartition
	offset int64
}

// gatherGroups asks all that the commands show about groups.
func (a *app) gatherGroups(ctx context.Context, c *client, names []string) ([]groupDetail, error) {
	infos, err := c.describeGroups(ctx, names...)
	if err != nil {
		return nil, err
	}
	committed := make([]map[model.TopicPartition]int64, len(infos))
	var topics []string
	for i := range infos {
		g := &infos[i]
		if committed[i], err = c.committed(ctx, g.name); err != nil {
			return nil, err
		}
		if g.state == "Dead" && len(committed[i]) == 0 { // how older brokers say that there is none
			return nil, failed(kerr.GroupIDNotFound, "group %s", g.name)
		}
		for tp := range committed[i] {
			topics = append(topics, tp.Topic)
		}
		for _, m := range g.members {
			topics = append(topics, m.topics...)
		}
	}
	slices.Sort(topics)
	spans, err := c.spansOf(ctx, slices.Compact(topics))
	if err != nil {
		return nil, err
	}
	lists := make([][]lagRow, len(infos))
	for i := range infos {
		lists[i] = lagOf(&infos[i], committed[i], spans)
	}
	if err := a.measure(ctx, spans, lists...); err != nil {
		return nil, err
	}
	var all []groupDetail
	for i := range infos {
		all = append(all, detailOf(&infos[i], lists[i]))
	}
	return all, nil
}

func detailOf(g *groupInfo, rows []lagRow) groupDetail {
	d := groupDetail{Group: g.name, State: g.state, Type: g.protocolType, Protocol: g.protocol, Coordinator: g.coordinator, Partitions: rows, Members: []memberRow{}}
	idle := false
	for _, m := range g.members {
		isIdle := g.state == "Stable" && len(m.owned) == 0
		idle = idle || isIdle
		d.Members = append(d.Members, memberRow{m.id, m.instance, m.client, m.host, len(m.owned), isIdle})
	}
	d.Lag, d.LagSeconds = worst(rows)
	if idle {
		// Offsets of topics that nobody reads any more are not shared out.
		var shared int64
		for _, r := range rows {
			if slices.ContainsFunc(g.members, func(m memberInfo) bool { return slices.Contains(m.topics, r.Topic) }) {
				shared++
			}
		}
		d.Idle = fmt.Sprintf("IDLE (%s, %s)", plural(int64(len(g.members)), "member"), plural(shared, "partition"))
	}
	for _, r := range slices.Backward(g.rebalances) {
		j := rebalanceJSON{
			Started:    time.UnixMilli(r.StartedMs).UTC().Format("2006-01-02T15:04:05.000Z"),
			Generation: r.Generation, Members: r.Members, Reasons: r.Reasons, More: r.More,
		}
		if r.EndedMs > 0 {
			took := float64(r.EndedMs-r.StartedMs) / 1000
			j.Seconds = &took
		}
		d.Rebalances = append(d.Rebalances, j)
	}
	return d
}

// worst sums up the records and takes the longest time; nil where nothing is known.
func worst(rows []lagRow) (lag *int64, seconds *float64) {
	for _, r := range rows {
		if r.Lag != nil {
			if lag == nil {
				lag = new(int64)
			}
			*lag += *r.Lag
		}
		if r.LagSeconds != nil && (seconds == nil || *r.LagSeconds > *seconds) {
			seconds = r.LagSeconds
		}
	}
	return lag, seconds
}

func (a *app) groupDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe GROUP...",
		Short: "Show members, owners, lag and the last rebalances of groups",
		Args:  wantArgs(true, "GROUP"),
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			all, err := a.gatherGroups(ctx, c, args)
			if err != nil {
				return err
			}
			return printResult(a.Stdout, *out, all, func(w io.Writer, wide bool) error {
				for i := range all {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := a.printGroup(w, &all[i], wide); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return cmd
}

// shortMember cuts the random tail of a member id to its first 8 digits: enough to tell
// members apart on a screen. The tail is a UUID, with dashes or without.
func shortMember(id string) string {
	for _, n := range []int{36, 32} {
		if at := len(id) - n; at > 0 && id[at-1] == '-' && strings.Trim(id[at:], "0123456789abcdef-") == "" {
			return id[:at+8]
		}
	}
	return id
}

func behindText(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return humanDuration(time.Duration(*seconds * float64(time.Second)))
}

func (a *app) printGroup(w io.Writer, d *groupDetail, wide bool) error {
	fmt.Fprintf(w, "%s: %s, %s", d.Group, d.State, plural(int64(len(d.Members)), "member"))
	switch {
	case d.Lag == nil:
		fmt.Fprint(w, ", nothing committed")
	case *d.Lag > 0 && d.LagSeconds != nil:
		fmt.Fprintf(w, ", lag %s and %s", plural(*d.Lag, "record"), behindText(d.LagSeconds))
	default:
		fmt.Fprintf(w, ", lag %s", plural(*d.Lag, "record"))
	}
	if d.Protocol != "" {
		fmt.Fprintf(w, ", %s", d.Protocol)
	}
	if d.Coordinator >= 0 {
		fmt.Fprintf(w, ", coordinator %d", d.Coordinator)
	}
	fmt.Fprintln(w)
	name := shortMember
	if wide {
		name = func(id string) string { return id }
	}
	members := make(map[string]*memberRow)
	for i := range d.Members {
		members[d.Members[i].ID] = &d.Members[i]
	}
	if len(d.Partitions) > 0 {
		fmt.Fprintln(w)
		t := table{cols: []column{
			{head: "TOPIC"}, {head: "PARTITION", right: true}, {head: "COMMITTED", right: true}, {head: "END", right: true},
			{head: "LAG", right: true}, {head: "BEHIND", right: true}, {head: "OWNER"}, {head: "HOST", wide: true}, {head: "INSTANCE", wide: true},
		}}
		for _, r := range d.Partitions {
			owner, host, instance := "-", "-", "-"
			if m := members[r.Owner]; m != nil {
				owner, host = name(m.ID), strings.TrimPrefix(m.Host, "/") // Kafka's Java prints a slash
				if m.Instance != "" {
					instance = m.Instance
				}
			}
			t.add(r.Topic, strconv.Itoa(int(r.Partition)), numOrDash(r.Committed), numOrDash(r.End), numOrDash(r.Lag), behindText(r.LagSeconds), owner, host, instance)
		}
		if err := t.write(w, wide); err != nil {
			return err
		}
	}
	if d.Idle != "" {
		fmt.Fprintln(w)
		for _, m := range d.Members {
			if m.Idle {
				fmt.Fprintf(w, "%s  %s  %s\n", d.Idle, name(m.ID), strings.TrimPrefix(m.Host, "/"))
			}
		}
	}
	return a.printRebalances(w, d, wide)
}

// shownRebalances is how many rebalances text shows; wide and data show all.
const shownRebalances = 5

func (a *app) printRebalances(w io.Writer, d *groupDetail, wide bool) error {
	if len(d.Rebalances) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nRebalances, newest first:\n")
	t := table{cols: []column{{head: "WHEN"}, {head: "TOOK", right: true}, {head: "GENERATION", right: true}, {head: "MEMBERS", right: true}, {head: "REASON"}}}
	for i, r := range d.Rebalances {
		if i == shownRebalances && !wide {
			break
		}
		started, err := time.Parse(time.RFC3339Nano, r.Started)
		if err != nil {
			return err
		}
		when, took, generation := humanDuration(a.Now().Sub(started))+" ago", "going on", "-"
		if wide {
			when = r.Started
		}
		if r.Seconds != nil {
			took, generation = humanDuration(time.Duration(*r.Seconds*float64(time.Second))), strconv.Itoa(int(r.Generation))
		}
		reasons := r.Reasons
		if !wide {
			reasons = shortReasons(reasons)
		}
		reason := strings.Join(reasons, "; ")
		if r.More > 0 {
			reason += fmt.Sprintf("; and %d more", r.More)
		}
		t.add(when, took, generation, strconv.Itoa(r.Members), reason)
	}
	return t.write(w, wide)
}

// shortReasons cuts the member ids in reasons as the tables do.
func shortReasons(reasons []string) []string {
	short := make([]string, len(reasons))
	for i, r := range reasons {
		short[i] = r
		if rest, ok := strings.CutPrefix(r, "member "); ok {
			if id, why, ok := strings.Cut(rest, ":"); ok {
				short[i] = "member " + shortMember(id) + ":" + why
			}
		}
	}
	return short
}

// groupLagRow is a line of `group lag`: a group's lag on one topic.
type groupLagRow struct {
	Group      string   `json:"group"`
	Topic      string   `json:"topic"`
	Partitions int      `json:"partitions"`
	Lag        *int64   `json:"lag"`
	LagSeconds *float64 `json:"lag_seconds"`
}

func (a *app) groupLag() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lag [GROUP...]",
		Short: "Show how far groups are behind, in records and in time",
		Args:  cobra.ArbitraryArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			names := args
			if len(names) == 0 {
				listed, err := c.groups(ctx)
				if err != nil {
					return err
				}
				for _, g := range listed {
					if g.protocolType == "consumer" || g.protocolType == "" {
						names = append(names, g.name)
					}
				}
			}
			all, err := a.gatherGroups(ctx, c, names)
			if err != nil {
				return err
			}
			rows := []groupLagRow{}
			for i := range all {
				rows = append(rows, lagByTopic(&all[i])...)
			}
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				if len(rows) == 0 {
					a.note("no group has offsets")
					return nil
				}
				t := table{cols: []column{{head: "GROUP"}, {head: "TOPIC"}, {head: "PARTITIONS", right: true}, {head: "LAG", right: true}, {head: "BEHIND", right: true}}}
				for _, r := range rows {
					t.add(r.Group, r.Topic, strconv.Itoa(r.Partitions), numOrDash(r.Lag), behindText(r.LagSeconds))
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

// lagByTopic sums up a group's partitions by topic.
func lagByTopic(d *groupDetail) []groupLagRow {
	var rows []groupLagRow
	for from := 0; from < len(d.Partitions); {
		to := from
		for to < len(d.Partitions) && d.Partitions[to].Topic == d.Partitions[from].Topic {
			to++
		}
		part := d.Partitions[from:to]
		lag, seconds := worst(part)
		rows = append(rows, groupLagRow{d.Group, part[0].Topic, len(part), lag, seconds})
		from = to
	}
	return rows
}
