// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// printCheckpoints prints medians: first what was measured, then the machine,
// then how near one comes to the other.
func printCheckpoints(w io.Writer, all []checkpoint) {
	fmt.Fprintln(w, "\nCheckpoints (medians; GB/s are 10^9 bytes a second)")
	tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	defer tab.Flush()
	fmt.Fprintln(tab, "MiB\tpages\tn\tstart s\tquiet gap ms\tpause ms\tworst\tdump s\tGB/s\tof write+fsync\tof direct\tof memcpy\tstop GB/s\tresume s\tGB/s\tof direct read\t")
	for _, g := range grouped(all) {
		rate := func(c checkpoint) float64 { return float64(c.Bytes) / c.Dump }
		stop := func(c checkpoint) float64 { return float64(c.StopBytes) / c.StopDump }
		resume := func(c checkpoint) float64 { return float64(c.StopBytes) / c.Resume }
		m := func(f func(checkpoint) float64) float64 { return median(g, f) }
		fmt.Fprintf(tab, "%d\t%s\t%d\t%.2f\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s\t\n",
			g[0].MiB, g[0].kind(), len(g),
			m(func(c checkpoint) float64 { return c.Start }),
			m(func(c checkpoint) float64 { return c.Quiet * 1e3 }),
			m(func(c checkpoint) float64 { return c.Pause * 1e3 }), worst(g),
			m(func(c checkpoint) float64 { return c.Dump }), m(rate)/1e9,
			ratio(m(func(c checkpoint) float64 { return rate(c) / c.Limits.Write })),
			ratio(m(func(c checkpoint) float64 { return rate(c) / c.Limits.DirectWrite })),
			ratio(m(func(c checkpoint) float64 { return rate(c) / c.Limits.Memcpy })),
			m(stop)/1e9, m(func(c checkpoint) float64 { return c.Resume }), m(resume)/1e9,
			ratio(m(func(c checkpoint) float64 { return resume(c) / c.Limits.DirectRead })))
	}
	tab.Flush()
	printLimits(w, all)
}

func printLimits(w io.Writer, all []checkpoint) {
	fmt.Fprintln(w, "\nThis machine in the same run (GB/s, medians)")
	tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	defer tab.Flush()
	fmt.Fprintln(tab, "MiB\twrite+fsync\tdirect write\tdirect read\tmemcpy\t")
	for _, g := range grouped(all) {
		if g[0].kind() != variants[0].kind() {
			continue
		}
		m := func(f func(limits) float64) float64 {
			return median(g, func(c checkpoint) float64 { return f(c.Limits) }) / 1e9
		}
		fmt.Fprintf(tab, "%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", g[0].MiB,
			m(func(l limits) float64 { return l.Write }), m(func(l limits) float64 { return l.DirectWrite }),
			m(func(l limits) float64 { return l.DirectRead }), m(func(l limits) float64 { return l.Memcpy }))
	}
}

func worst(g []checkpoint) float64 {
	w := 0.0
	for _, c := range g {
		w = max(w, c.Pause*1e3)
	}
	return w
}

func ratio(r float64) string {
	if math.IsNaN(r) {
		return "-"
	}
	return fmt.Sprintf("%.2f", r)
}

// grouped puts the rounds of one size and kind together, in order.
func grouped(all []checkpoint) [][]checkpoint {
	var groups [][]checkpoint
	at := map[string]int{}
	for _, c := range all {
		key := fmt.Sprint(c.MiB, c.kind())
		if _, known := at[key]; !known {
			at[key] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[key]] = append(groups[at[key]], c)
	}
	return groups
}

func printOverhead(w io.Writer, lines []overheadLine) {
	fmt.Fprintf(w, "\nRun time under esky-wrap without a checkpoint (median of %d, seconds)\n", overheadRounds)
	tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	defer tab.Flush()
	fmt.Fprintln(tab, "work\tbare\tunder esky\tratio\tstart and end ms\t")
	for _, l := range lines {
		extra := (middle(l.Esky.Whole) - middle(l.Esky.Work) - middle(l.Bare.Whole) + middle(l.Bare.Work)) * 1e3
		fmt.Fprintf(tab, "%s\t%.4f\t%.4f\t%.2f\t%.0f\t\n", l.Kind, middle(l.Bare.Work), middle(l.Esky.Work), l.Ratio, extra)
	}
}
