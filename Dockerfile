# docker build -t fastplast . && docker run --rm -v "$PWD/runs:/fastplast/runs" fastplast
# The demo: trains 6 networks on 8 tasks of real MNIST, and draws a figure into runs/.
FROM python:3.12-slim
WORKDIR /fastplast
COPY . .
RUN bash -c "source scripts/setup_env.sh && setup_env"
CMD ["bash", "scripts/demo.sh"]
