# Draws out/ranks.png from out/ranks.csv and out/scaling.csv: each example's losses, those of all numbers of ranks on top of
# each other, and how much faster more ranks are.
csv = out.'/ranks.csv'
scaling = out.'/scaling.csv'
distinct(k) = system("tail -n +2 ".csv." | cut -d, -f".k." | awk '!seen[$0]++' | tr '\\n' ' '")
examples = distinct('1')
methods = distinct('2')
sizes = distinct('3')
pick(file, e, m, more, x, y) = "< awk -F, '$1 == \"".e."\" && $2 == \"".m."\"".more." {print $".x.", $".y."}' ".file
curve(e, m, n) = pick(csv, e, m, ' && $3 == '.n, '4', '5')
set terminal pngcairo size 650*(words(examples) + 1), 480 font 'sans,11'
set output out.'/ranks.png'
set multiplot layout 1, words(examples) + 1
set grid
set key top right
set xlabel 'step'
set ylabel 'training loss'
# the more ranks, the thinner the line: one that lies on another shows it at its sides
width(k) = 7.0 - 5.0 * (k - 1) / (words(sizes) > 1 ? words(sizes) - 1 : 1)
do for [e in examples] {
  set title e
  plot for [i = 1:words(methods)] for [k = 1:words(sizes)] curve(e, word(methods, i), word(sizes, k)) \
    with lines linewidth width(k) linecolor (i - 1) * words(sizes) + k \
    title word(methods, i).', '.word(sizes, k).' rank(s)'
}
set title 'speed-up of start and training'
set xlabel 'ranks'
set ylabel 'times one rank'
set xrange [0.5:*]
set yrange [0:*]
set key top left
plot for [e in examples] for [m in methods] pick(scaling, e, m, '', '3', '4') with linespoints linewidth 2 pointtype 7 \
  title e.', '.m, x with lines dashtype 2 linecolor 'gray' title 'ideal'
unset multiplot
