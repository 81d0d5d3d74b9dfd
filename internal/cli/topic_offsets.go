package cli

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
)

func (a *app) topicTrim() *cobra.Command {
	var place, partitions string
	cmd := &cobra.Command{
		Use:   "trim TOPIC --before end|N|@TIME",
		Short: "Delete the oldest records of a topic",
		Args:  wantArgs(false, "TOPIC"),
	}
	f := cmd.Flags()
	f.StringVar(&place, "before", "", "keep what is at or after `PLACE`: end, an offset N, -N before the end, @TIME")
	f.StringVarP(&partitions, "partitions", "p", "", "only these `PARTITIONS` (0,2,5-7)")
	yes := f.BoolP("yes", "y", false, "do not ask")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if place == "" {
			return usage("--before is missing: end, an offset N, -N before the end, or @TIME")
		}
		spec := consumeSpec{topics: args}
		var err error
		if spec.start, err = parseStart(place, a.Now()); err != nil {
			return usage("--before: %v", err)
		}
		if partitions != "" {
			if spec.partitions, err = parsePartitions(partitions); err != nil {
				return usage("-p: %v", err)
			}
		}
		if err := a.confirm(*yes, "delete the records of "+args[0]+" before "+place); err != nil {
			return err
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			spans, err := c.spans(ctx, spec)
			if err != nil {
				return err
			}
			before, err := c.resolve(ctx, spec, spans, func(model.TopicPartition, int64, int64) {})
			if err != nil {
				return err
			}
			starts, err := c.trim(ctx, before)
			if err != nil {
				return err
			}
			rows := make([]offsetRow, 0, len(starts))
			for tp, o := range starts {
				rows = append(rows, offsetRow{tp.Partition, o, spans[tp].end, max(0, o-spans[tp].start)})
			}
			sort.Slice(rows, func(i, j int) bool { return rows[i].Partition < rows[j].Partition })
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				t := table{cols: []column{{head: "PARTITION", right: true}, {head: "START", right: true}, {head: "END", right: true}, {head: "DELETED", right: true}}}
				for _, r := range rows {
					t.add(strconv.Itoa(int(r.Partition)), fmt.Sprint(r.Start), fmt.Sprint(r.End), fmt.Sprint(r.Deleted))
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}

// offsetRow is a partition in the answer of `topic trim`.
type offsetRow struct {
	Partition int32 `json:"partition"`
	Start     int64 `json:"start"`
	End       int64 `json:"end"`
	Deleted   int64 `json:"deleted"`
}

// placeRow is a partition in the answer of `topic offsets`.
type placeRow struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Start     int64   `json:"start"`
	End       int64   `json:"end"`
	At        *int64  `json:"at,omitempty"`
	Time      *string `json:"time,omitempty"`
	// compacted: it may have fewer records than offsets.
	compacted bool
}

func (a *app) topicOffsets() *cobra.Command {
	var place string
	cmd := &cobra.Command{
		Use:   "offsets TOPIC...",
		Short: "Show where the logs of a topic begin and end, and what lies at a time",
		Args:  wantArgs(true, "TOPIC"),
	}
	cmd.Flags().StringVar(&place, "at", "", "also the offset of the first record at or after `TIME`")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var at startSpec
		if place != "" {
			t, err := parseTime(strings.TrimPrefix(place, "@"), a.Now())
			if err != nil {
				return usage("--at: %v", err)
			}
			at = startSpec{kind: startTime, at: t}
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *client) error {
			var rows []placeRow
			for _, topic := range args {
				more, err := c.placeRows(ctx, topic, at)
				if err != nil {
					return err
				}
				rows = append(rows, more...)
			}
			return printResult(a.Stdout, *out, rows, func(w io.Writer, wide bool) error {
				t := table{cols: []column{{head: "TOPIC"}, {head: "PARTITION", right: true}, {head: "START", right: true}, {head: "END", right: true}, {head: "RECORDS", right: true}}}
				if at.kind == startTime {
					t.cols = append(t.cols, column{head: "AT", right: true}, column{head: "TIME"})
				}
				for _, r := range rows {
					cells := []string{r.Topic, strconv.Itoa(int(r.Partition)), fmt.Sprint(r.Start), fmt.Sprint(r.End), recordsCell(r.Start, r.End, r.compacted)}
					if at.kind == startTime {
						when := "-"
						if r.Time != nil {
							when = *r.Time
						}
						cells = append(cells, numOrDash(r.At), when)
					}
					t.add(cells...)
				}
				return t.write(w, wide)
			})
		})
	}
	return cmd
}
