% SPDX-License-Identifier: Apache-2.0
% Linear algebra, an integrator, string and cell handling.
rand("twister", 42); randn("twister", 42);
a = randn(220);
for i = 1:70
  [q, r] = qr(a);
  a = r * q / norm(r, "fro") * 200 + diag(randn(220, 1));
  printf("%d %.12e %.12e\n", i, trace(a), max(abs(eig(a(1:80, 1:80)))));
  fflush(stdout);
end
[t, y] = ode45(@(t, y) [y(2); (1 - y(1)^2) * y(2)], [0 200], [2; 0]);
printf("%d %.12e\n", numel(t), y(end, 1));
c = cellfun(@(s) sprintf("%s-%d", s, numel(s)), strsplit(repmat("ab cde f ", 1, 20000), " "), "UniformOutput", false);
printf("%s\n", hash("sha256", strjoin(c, ",")));
