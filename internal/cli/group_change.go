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

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// seekRow is a partition in the answer of `group seek`.
type seekRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"`
	To        int64  `json:"to"`
}

func (a *app) groupSeek() *cobra.Command {
	var place string
	var topics []string
	cmd := &cobra.Command{
		Use:   "seek GROUP --to start|end|N|@TIME",
		Short: "Move the committed offsets of a group that has no members",
		Long: `Move the committed offsets of a group, so that it reads again or skips. The group must
have no members: they would commit over it. Without --topic all topics move that the
group has offsets of; a group that does not exist yet comes into being.

  kalda group seek billing --to start
  kalda group seek billing --to @-2h --topic orders --topic payments:3`,
		Args: wantArgs(false, "GROUP"),
	}
	f := cmd.Flags()
	f.StringVar(&place, "to", "", "`PLACE`: start, end, an offset N, -N before the end, or @TIME")
	f.StringArrayVar(&topics, "topic", nil, "only this `TOPIC` or TOPIC:PARTITION")
	dryRun := f.Bool("dry-run", false, "only show what would change")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if place == "" {
			return usage("--to is missing: start, end, an offset N, -N before the end, or @TIME")
		}
		to, err := parseStart(place, a.Now())
		if err != nil {
			return usage("--to: %v", err)
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			return a.seek(ctx, c, args[0], to, topics, *dryRun, *out)
		})
	}
	return cmd
}

func (a *app) seek(ctx context.Context, c *client, group string, to startSpec, topics []string, dryRun bool, out string) error {
	members, _, err := c.groupSize(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return failed(err, "group %s", group)
	}
	if members > 0 {
		return &failure{
			what: fmt.Sprintf("group %s has %s, which would commit over it", group, plural(int64(members), "member")),
			hint: "stop them first; 'kalda group describe " + group + "' names them",
			err:  kerr.NonEmptyGroup,
		}
	}
	committed, err := c.committed(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	selected, err := c.selectPartitions(ctx, topics, committed)
	if err != nil {
		return err
	}
	if len(selected) == 0 {
		return &failure{what: "group " + group + " has no committed offsets", hint: "say with --topic which topics it shall read", code: ExitNotFound}
	}
	at, err := c.resolve(ctx, consumeSpec{topics: topicsOf(selected), start: to}, selected, func(tp model.TopicPartition, want, got int64) {
		a.note("note: offset %d is outside %s, taking %d", want, tp, got)
	})
	if err != nil {
		return err
	}
	if !dryRun {
		if err := c.commitOffsets(ctx, group, at); err != nil {
			return failed(err, "seek group %s", group)
		}
	}
	rows := make([]seekRow, 0, len(at))
	for tp, o := range at {
		r := seekRow{Topic: tp.Topic, Partition: tp.Partition, To: o}
		if from, ok := committed[tp]; ok {
			r.From = &from
		}
		rows = append(rows, r)
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].Topic < rows[j].Topic || rows[i].Topic == rows[j].Topic && rows[i].Partition < rows[j].Partition
	})
	return printResult(a.Stdout, out, rows, func(w io.Writer, wide bool) error {
		t := table{cols: []column{{head: "TOPIC"}, {head: "PARTITION", right: true}, {head: "FROM", right: true}, {head: "TO", right: true}}}
		for _, r := range rows {
			t.add(r.Topic, strconv.Itoa(int(r.Partition)), numOrDash(r.From), strconv.FormatInt(r.To, 10))
		}
		return t.write(w, wide)
	})
}

// selectPartitions returns the spans of the partitions that --topic names, or of all with
// a committed offset.
func (c *client) selectPartitions(ctx context.Context, topics []string, committed map[model.TopicPartition]int64) (map[model.TopicPartition]span, error) {
	selected := make(map[model.TopicPartition]span)
	if len(topics) == 0 {
		if len(committed) == 0 {
			return selected, nil
		}
		spans, err := c.spansOf(ctx, topicsOf(committed))
		if err != nil {
			return nil, err
		}
		for tp := range committed {
			if sp, ok := spans[tp]; ok { // the offsets of a topic that is gone stay
				selected[tp] = sp
			}
		}
		return selected, nil
	}
	for _, t := range topics {
		spec := consumeSpec{topics: []string{t}}
		if strings.Contains(t, ":") {
			topic, p, err := parseTopicPartition(t)
			if err != nil {
				return nil, usage("--topic %v", err)
			}
			spec.topics, spec.partitions = []string{topic}, []int32{p}
		}
		spans, err := c.spans(ctx, spec)
		if err != nil {
			return nil, err
		}
		for tp, sp := range spans {
			selected[tp] = sp
		}
	}
	return selected, nil
}

// topicsOf returns the topics of partitions, each once, by name.
func topicsOf[V any](m map[model.TopicPartition]V) []string {
	var list []string
	for tp := range m {
		list = append(list, tp.Topic)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (a *app) groupDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete GROUP...",
		Short: "Delete groups with their committed offsets",
		Args:  wantArgs(true, "GROUP"),
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.confirm(*yes, "delete "+strings.Join(args, ", ")+" with all offsets"); err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			errs, err := c.deleteGroups(ctx, args)
			if err != nil {
				return err
			}
			return a.tell(*out, "delete", "deleted", args, errs)
		})
	}
	return cmd
}

func (a *app) groupOffsetDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offset-delete GROUP TOPIC[:PARTITION]...",
		Short: "Forget a group's committed offsets of topics that it does not read now",
		Args:  wantArgs(true, "GROUP", "TOPIC"),
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		group, topics := args[0], args[1:]
		if err := a.confirm(*yes, "forget the offsets of "+group+" in "+strings.Join(topics, ", ")); err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			tps, err := c.committedIn(ctx, group, topics)
			if err != nil {
				return err
			}
			errs, err := c.deleteOffsets(ctx, group, tps)
			if err != nil {
				return failed(err, "group %s", group)
			}
			names := make([]string, len(tps))
			for i, tp := range tps {
				names[i] = tp.String()
			}
			return a.tell(*out, "forget the offset of", "forgot", names, errs)
		})
	}
	return cmd
}

// committedIn returns the partitions that arguments name and the group has offsets of.
func (c *client) committedIn(ctx context.Context, group string, topics []string) ([]model.TopicPartition, error) {
	committed, err := c.committed(ctx, group)
	if err != nil {
		return nil, err
	}
	var tps []model.TopicPartition
	for _, t := range topics {
		only := int32(-1)
		name := t
		if strings.Contains(t, ":") {
			if name, only, err = parseTopicPartition(t); err != nil {
				return nil, usage("%v", err)
			}
		}
		n := len(tps)
		for tp := range committed {
			if tp.Topic == name && (only < 0 || tp.Partition == only) {
				tps = append(tps, tp)
			}
		}
		if len(tps) == n {
			return nil, &failure{what: fmt.Sprintf("group %s has no committed offset in %s", group, t), code: ExitNotFound}
		}
	}
	sort.Slice(tps, func(i, j int) bool {
		return tps[i].Topic < tps[j].Topic || tps[i].Topic == tps[j].Topic && tps[i].Partition < tps[j].Partition
	})
	return slices.Compact(tps), nil
}
