# SPDX-License-Identifier: Apache-2.0
# Linear algebra, random numbers, a bootstrap, and forked workers (parallel).
set.seed(42)
options(digits = 15)
x <- matrix(rnorm(600 * 40), 600)
y <- x %*% (1:40) + rnorm(600)
for (i in 1:250) {
  pick <- sample(600, replace = TRUE)
  fit <- lm.fit(x[pick, ], y[pick])
  s <- svd(crossprod(x[pick, ]))
  cat(i, format(sum(fit$coefficients)), format(sum(s$d)), "\n")
}
RNGkind("L'Ecuyer-CMRG")
set.seed(7)
parts <- parallel::mclapply(1:8, function(n) {
  v <- 0
  for (k in 1:300) v <- v + mean(sort(runif(20000)))
  v
}, mc.cores = 2, mc.preschedule = TRUE)
print(unlist(parts))
z <- aggregate(len ~ supp + dose, ToothGrowth, mean)
print(z)
